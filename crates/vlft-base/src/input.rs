//! Opening files that somebody else made or named: every command does it here. A pipe would wait for
//! ever, and is gone when it has been read once (most commands read twice); a device never ends.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Far beyond any config, index or log; a file of this size is something else under that name.
const MOST_BYTES: u64 = 1 << 30;

/// [`File::open`] of a regular file, or of a link to one. A folder is left to the first read, whose error
/// says that it is one.
pub fn open(path: &Path) -> io::Result<File> {
    if !path.is_dir() {
        check_regular(path)?;
    }
    File::open(path)
}

/// [`fs::read`], as [`open`] opens.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`fs::read_to_string`], as [`open`] opens.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// [`read_to_string`] of a small text, and of nothing that is too large for one.
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

/// Looks before opening, since opening a pipe waits already: for files that a library opens.
pub fn check_regular(path: &Path) -> io::Result<()> {
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
        assert_eq!(read(&path).unwrap(), b"{}");
        assert_eq!(read_to_string(&path).unwrap(), "{}");
        assert!(read_text(dir.path()).is_err());
        assert!(read(dir.path()).is_err());
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
            for refused in [
                open(&link).err(),
                read(&link).err(),
                read_to_string(&link).err(),
                crate::digest::sha256_file(&link).err(),
            ] {
                assert_eq!(refused.unwrap().to_string(), "it is no regular file");
            }
        }
    }
}
