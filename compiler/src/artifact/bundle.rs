//! A bundle: image and weights in one file, for the runtime to load on any system.

use super::image::Image;
use super::{Artifact, ArtifactError, image, output, weights};
use burin_runtime::load::BUNDLE_ALIGN;
use std::path::Path;

/// Writes a bundle.
pub fn write(a: &Artifact<'_>, path: &Path) -> Result<(), ArtifactError> {
    let image: Image = image::build(a)?;
    let weights_at = (image.bytes.len() as u64).next_multiple_of(BUNDLE_ALIGN);
    output::write(path, false, |file| {
        weights::write_parts(a.program()?, &image, (0, weights_at), (file, path))
    })
}
