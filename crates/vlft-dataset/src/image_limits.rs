//! What an image file may be. `validate` judges by it and the processor reads by it, so that what one
//! lets pass the other never refuses.

use image::ImageFormat;

/// Pillow refuses more pixels than this as a decompression bomb, hence so does transformers.
pub const MAX_PIXELS: u64 = 178_956_970;
/// No page is larger; what is larger is not an image, whatever its name.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Beyond this ratio of the sides transformers refuses an image.
pub const MAX_ASPECT_RATIO: u32 = 200;
/// What a decoder may allocate beside its output.
pub(crate) const MAX_DECODER_BYTES: u64 = 1 << 30;

/// The formats that are read.
pub fn is_accepted(format: ImageFormat) -> bool {
    matches!(
        format,
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP
    )
}

/// For the decoders of `image`.
pub fn decoder_limits() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    limits
}

/// Whether a JPEG file is whole. The decoder paints gray what is missing, without a word.
pub fn jpeg_has_an_end(bytes: &[u8]) -> bool {
    jpeg_markers(bytes).any(|marker| marker == END_OF_IMAGE)
}

const END_OF_IMAGE: u8 = 0xd9;

/// The codes of a JPEG file's segments, up to its end-of-image marker or to where the data ends.
pub(crate) fn jpeg_markers(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 2;
    let mut ended = false;
    std::iter::from_fn(move || {
        let marker = (!ended).then(|| next_marker(bytes, &mut at)).flatten();
        ended = marker.is_none_or(|marker| marker == END_OF_IMAGE);
        marker
    })
}

/// The next segment's code; `at` is then behind the segment.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    // Markers are 0xFF and a code; more 0xFF before the code are fill bytes. In coded data 0xFF is
    // followed by 0 or by a restart code, so the next other code ends it. A segment has its length,
    // and an end marker inside (of a thumbnail) is not ours.
    loop {
        *at += memchr::memchr(0xff, bytes.get(*at..)?)? + 1;
        match *bytes.get(*at)? {
            END_OF_IMAGE => return Some(END_OF_IMAGE),
            0xff => {}
            0x00 | 0x01 | 0xd0..=0xd7 => *at += 1,
            marker => {
                let length = bytes.get(*at + 1..*at + 3)?;
                *at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                return Some(marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_marker_counts_only_outside_of_segments() {
        for (bytes, expected) in [
            (&b"\xff\xd8\xff\xd9"[..], true),
            (b"\xff\xd8\xff\xff\xff\xd9", true),
            (b"\xff\xd8data\xff\x00\xff\xd0more\xff\xd9trailer", true),
            (b"\xff\xd8\xff\xe1\x00\x04\xff\xd9", false),
            (b"\xff\xd8\xff\xe1\x00\x04\xff\xd9\xff\xd9", true),
            (b"\xff\xd8\xff\xe1\x00", false),
            (b"\xff\xd8data\xff", false),
            (b"", false),
        ] {
            assert_eq!(jpeg_has_an_end(bytes), expected, "{bytes:x?}");
        }
    }
}
