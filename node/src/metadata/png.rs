//! PNG: W3C Portable Network Graphics, third edition, with the animation chunks.

use super::{CannotStrip, Input, exif::Orientation};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1A\n";

/// What a picture is shown from: the critical chunks, transparency, colour, pixel shape, background, animation.
const KEPT: &[&[u8; 4]] = &[
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs",
    b"bKGD", b"acTL", b"fcTL", b"fdAT",
];

pub(super) fn strip(picture: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    let mut input = Input(picture);
    if input.array()? != SIGNATURE {
        return Err(CannotStrip::Malformed("it does not start as a PNG"));
    }
    let mut kept = Vec::with_capacity(picture.len());
    kept.extend(SIGNATURE);
    let mut orientation = None;
    let mut header_end = None;
    let mut has_data = false;
    loop {
        let length: [u8; 4] = input.array()?;
        let kind: [u8; 4] = input.array()?;
        let contents = input.take(length_of(length)?)?;
        let sum: [u8; 4] = input.array()?;
        // A wrong sum may mean a wrong kind: a text that now calls itself picture data.
        if sum != checksum(kind, contents) {
            return Err(CannotStrip::Malformed("a chunk's checksum is wrong"));
        }
        if header_end.is_none() != (kind == *b"IHDR") {
            return Err(CannotStrip::Malformed("a PNG has one header, and it comes first"));
        }
        if KEPT.contains(&&kind) {
            kept.extend(length);
            kept.extend(kind);
            kept.extend_from_slice(contents);
            kept.extend(sum);
        } else if kind == *b"eXIf" {
            orientation = orientation.or_else(|| Orientation::read(contents));
        } else if kind[0].is_ascii_uppercase() {
            return Err(CannotStrip::Unsupported("a PNG with unknown critical chunks"));
        }
        match &kind {
            b"IHDR" => header_end = Some(kept.len()),
            b"IDAT" => has_data = true,
            b"IEND" => break,
            _ => {}
        }
    }
    match (header_end, has_data) {
        (Some(at), true) => {
            if let Some(orientation) = orientation {
                kept.splice(at..at, orientation_chunk(orientation));
            }
            Ok(kept)
        }
        _ => Err(CannotStrip::Malformed("a PNG without a picture")),
    }
}

fn length_of(length: [u8; 4]) -> Result<usize, CannotStrip> {
    usize::try_from(u32::from_be_bytes(length)).map_err(|_| CannotStrip::Malformed("a chunk longer than memory"))
}

fn orientation_chunk(orientation: Orientation) -> Vec<u8> {
    let tiff = orientation.tiff();
    // A literal, because the length is the type's: 26 bytes.
    [&26_u32.to_be_bytes()[..], b"eXIf", &tiff, &checksum(*b"eXIf", &tiff)].concat()
}

/// CRC-32 over kind and contents, not over the length.
pub(super) fn checksum(kind: [u8; 4], contents: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind);
    hasher.update(contents);
    hasher.finalize().to_be_bytes()
}
