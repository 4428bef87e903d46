//! Runs every file test.

use burin_tests::{files, runners};
use std::path::Path;

#[test]
fn file_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let bless = std::env::var_os("BLESS").is_some_and(|v| v == "1");
    match files::run_folder(&folder, &runners::find, bless) {
        Ok(cases) => assert!(cases > 0, "no cases in {}", folder.display()),
        Err(failures) => panic!("{failures}BLESS=1 rewrites what is expected"),
    }
}
