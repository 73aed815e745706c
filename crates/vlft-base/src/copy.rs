//! Part of a file into another, without its bytes passing through this process where the system can do
//! that: half the CPU time of writing from a mapping, and no copy at all on file systems that share
//! blocks.

use std::fs::File;
use std::io::{self, Write};

/// Appends `content`, which is what `from` holds from byte `at` on, to `to`.
pub fn part(from: &File, at: u64, content: &[u8], to: &mut File) -> io::Result<()> {
    let done = in_kernel(from, at, content.len(), to);
    // What could not be copied is written; if that cannot be done either, this says why.
    to.write_all(&content[done..])
}

/// How many of `length` bytes were copied: anything less means that the system cannot (another device,
/// an old kernel, a special file) or may not.
#[cfg(target_os = "linux")]
fn in_kernel(from: &File, mut at: u64, length: usize, to: &File) -> usize {
    let mut done = 0;
    while done < length {
        match rustix::fs::copy_file_range(from, Some(&mut at), to, None, length - done) {
            Ok(0) | Err(_) => break,
            Ok(copied) => done += copied,
        }
    }
    done
}

#[cfg(not(target_os = "linux"))]
fn in_kernel(_: &File, _: u64, _: usize, _: &File) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The slow twin writes all of it.
    #[test]
    fn what_the_system_copies_is_what_would_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        fs::write(dir.path().join("from"), &bytes).unwrap();
        let from = File::open(dir.path().join("from")).unwrap();
        for (at, length) in [(0, 0), (0, 1), (1, 4096), (4095, 100_001), (7, 2_999_993)] {
            let content = &bytes[at..at + length];
            let slow = dir.path().join("slow");
            fs::write(&slow, [b"head", content].concat()).unwrap();
            let fast = dir.path().join("fast");
            let mut to = File::create(&fast).unwrap();
            to.write_all(b"head").unwrap();
            part(&from, at as u64, content, &mut to).unwrap();
            assert_eq!(fs::read(&fast).unwrap(), fs::read(&slow).unwrap());
        }
    }

    /// A pipe cannot be copied from: then the bytes are written.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_system_cannot_copy_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("to");
        let special = File::open("/dev/null").unwrap();
        part(&special, 0, b"content", &mut File::create(&path).unwrap()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        let full = File::options().write(true).open("/dev/full");
        let error = part(&special, 0, b"content", &mut full.unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
