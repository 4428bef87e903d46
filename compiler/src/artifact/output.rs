//! Files that appear only when they are complete.

use super::ArtifactError;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

/// Blocks of zeros of this size are not written.
const BLOCK: usize = 65536;

/// Makes a file through a temporary one beside it, which is renamed at the end and removed on
/// failure. An executable one gets the permission to be run. A link is followed; what is there and is
/// no regular file (a device, a folder, a pipe) is refused, since the renaming would replace it.
pub fn write<T>(
    path: &Path,
    executable: bool,
    fill: impl FnOnce(&mut File) -> Result<T, ArtifactError>,
) -> Result<T, ArtifactError> {
    let fail = ArtifactError::io(path);
    let target = match path.canonicalize() {
        Ok(there) if !there.is_file() => {
            let message =
                format!("{}: found what is no regular file, expected one to replace", path.display());
            return Err(ArtifactError::Refused(message));
        }
        Ok(there) => there,
        Err(_) => path.to_owned(),
    };
    let mut options = tempfile::Builder::new();
    options.prefix(".burin-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if executable { 0o777 } else { 0o666 };
        options.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = executable;
    let mut temporary = options.tempfile_in(folder(&target)).map_err(&fail)?;
    let result = fill(temporary.as_file_mut())?;
    temporary.persist(&target).map_err(|e| fail(e.error))?;
    Ok(result)
}

/// The folder that a file lies in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes to a file that is zero from its position on, and seeks over large blocks of zeros, so that
/// they take no room. Whoever uses it sets the file's length at the end.
pub struct Sparse<'a>(pub &'a mut File);

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = &bytes[..bytes.len().min(BLOCK)];
        if block.len() == BLOCK && block.iter().fold(0, |all, b| all | b) == 0 {
            self.0.seek_relative(BLOCK as i64)?;
            return Ok(BLOCK);
        }
        self.0.write(block)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
