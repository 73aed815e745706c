//! Reading small text files that somebody else made.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Far beyond any config, index or log; a file of this size is something else under that name.
const MOST_BYTES: u64 = 1 << 30;

/// [`fs::read_to_string`] of a regular file, or of a link to one: a pipe would wait for ever, a device
/// would never end.
pub fn read_text(path: &Path) -> io::Result<String> {
    check_regular(path)?;
    let mut text = String::new();
    let file = File::open(path)?.take(MOST_BYTES + 1);
    io::BufReader::new(file).read_to_string(&mut text)?;
    match text.len() as u64 > MOST_BYTES {
        false => Ok(text),
        true => Err(io::Error::other("too large for a text file")),
    }
}

/// Looks before opening, since opening a pipe waits already.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "{}").unwrap();
        assert_eq!(read_text(&path).unwrap(), "{}");
        assert!(read_text(dir.path()).is_err());
        assert!(read_text(&dir.path().join("b.json")).is_err());
        #[cfg(unix)]
        {
            let link = dir.path().join("link");
            std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
            assert!(
                read_text(&link)
                    .unwrap_err()
                    .to_string()
                    .contains("no regular file")
            );
            assert!(crate::mmap::map(&link).is_err());
        }
    }
}
