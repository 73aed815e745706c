//! Zips that an honest zip library would refuse to write.
#![allow(
    dead_code,
    reason = "two crates include this file and use different parts of it"
)]

/// One entry; everything that the format can say about it may be a lie.
#[derive(Clone)]
pub(crate) struct ZipEntry {
    name: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    flags: u16,
    method: u16,
    crc32: u32,
    size: u32,
}

/// A regular, stored file.
pub(crate) fn file(name: &str, content: &[u8]) -> ZipEntry {
    ZipEntry {
        name: name.as_bytes().to_vec(),
        content: content.to_vec(),
        mode: 0o100_644,
        flags: 0,
        method: 0,
        crc32: crc32(content),
        size: content.len() as u32,
    }
}

impl ZipEntry {
    pub(crate) fn raw_name(mut self, name: &[u8]) -> Self {
        self.name = name.to_vec();
        self
    }
    /// Unix type and permissions.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
    pub(crate) fn encrypted(mut self) -> Self {
        self.flags |= 1;
        self
    }
    /// 0 stored, 8 deflated, 14 LZMA, ..
    pub(crate) fn method(mut self, method: u16) -> Self {
        self.method = method;
        self
    }
    pub(crate) fn claimed_crc32(mut self, crc32: u32) -> Self {
        self.crc32 = crc32;
        self
    }
    pub(crate) fn claimed_size(mut self, size: u32) -> Self {
        self.size = size;
        self
    }
}

/// The archive's bytes.
pub(crate) fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = out.len() as u32;
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.to_le_bytes());
        common.extend([0; 4]); // time and date
        common.extend(entry.crc32.to_le_bytes());
        common.extend((entry.content.len() as u32).to_le_bytes());
        common.extend(entry.size.to_le_bytes());
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes()); // extra field

        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(&entry.name);
        out.extend(&entry.content);

        directory.extend(b"PK\x01\x02");
        directory.extend((3u16 << 8 | 20).to_le_bytes()); // made by Unix
        directory.extend(&common);
        directory.extend([0; 6]); // comment, disk, internal attributes
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |mut crc: u32, byte: &u8| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(!0, step)
}
