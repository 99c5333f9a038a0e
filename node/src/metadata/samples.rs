//! Small files with something to hide in every place that has one, as the pieces that they are made of.

use super::png::checksum;

/// What no stripped file may contain.
pub(super) const NEEDLE: &[u8] = b"GPS-SECRET 21.0285N";

/// A piece of a file, and whether it is to be in the stripped file as it is here.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) kept: bool,
}

pub(super) fn kept(bytes: impl Into<Vec<u8>>) -> Piece {
    Piece { bytes: bytes.into(), kept: true }
}

pub(super) fn secret(bytes: impl Into<Vec<u8>>) -> Piece {
    Piece { bytes: bytes.into(), kept: false }
}

pub(super) fn file(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.bytes.clone()).collect()
}

/// The pieces to keep, in their order.
pub(super) fn expected(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().filter(|piece| piece.kept).flat_map(|piece| piece.bytes.clone()).collect()
}

pub(super) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// A TIFF structure, little-endian: an orientation, a pointer to a GPS directory, and the needle behind them.
#[rustfmt::skip]
pub(super) fn gps_tiff(orientation: u8) -> Vec<u8> {
    let mut tiff = vec![
        b'I', b'I', 42, 0, 8, 0, 0, 0,
        2, 0,
        0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0,
        0x25, 0x88, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0,
        0, 0, 0, 0,
    ];
    tiff.extend_from_slice(NEEDLE);
    tiff
}

/// What [`super::strip`] writes for a picture that is lying on its side (6), as the standard lays it out.
pub(super) const TURNED: &[u8] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

pub(super) fn segment(marker: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len() + 2).unwrap();
    [&[0xFF, marker][..], &length.to_be_bytes(), contents].concat()
}

fn after(name: &[u8]) -> Vec<u8> {
    [name, NEEDLE].concat()
}

const FRAME: &[u8] = &[8, 0, 8, 0, 8, 1, 1, 0x11, 0];

/// A progressive JPEG of two scans as a telephone might write it, with metadata before, between and behind them.
pub(super) fn jpeg(orientation: u8) -> Vec<Piece> {
    vec![
        kept([0xFF, 0xD8]),
        secret(segment(0xE1, &[b"Exif\0\0", &gps_tiff(orientation)[..]].concat())),
        secret(segment(0xE1, &after(b"http://ns.adobe.com/xap/1.0/\0"))),
        secret(segment(0xE2, &after(b"MPF\0II*\0"))),
        kept(segment(0xE2, b"ICC_PROFILE\0\x01\x01profile")),
        secret(segment(0xED, &after(b"Photoshop 3.0\x008BIM\x04\x04"))),
        secret(segment(0xE0, &after(b"JFXX\0\x10"))),
        secret(segment(0xEB, &after(b"JP"))),
        secret(segment(0xFE, NEEDLE)),
        kept(segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01")),
        kept(segment(0xDB, &[0; 65])),
        kept(segment(0xC2, FRAME)),
        kept(segment(0xDA, b"\x01\x01\0\0\0\0")),
        kept(*b"scan one \xFF\x00 \xFF\xD0 \xFF\xFF\x00 restarted"),
        secret(segment(0xFE, NEEDLE)),
        secret(b"filling ".to_vec()),
        kept(segment(0xC4, &[0; 17])),
        kept(segment(0xDA, b"\x01\x01\0\x01\x3F\0")),
        kept(*b"scan two"),
        kept([0xFF, 0xD9]),
        secret(after(b"\0\0\0\x18ftypmp42")),
        secret(*b"\xFF\xD8 another \xFF\xD9"),
    ]
}

pub(super) fn png_chunk(kind: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap();
    [&length.to_be_bytes()[..], kind, contents, &checksum(*kind, contents)].concat()
}

pub(super) fn png(orientation: u8) -> Vec<Piece> {
    let secrets = [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"sPLT", b"caBX", b"prVt"];
    let mut pieces = vec![kept(*b"\x89PNG\r\n\x1A\n"), kept(png_chunk(b"IHDR", b"\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0"))];
    pieces.extend(secrets.map(|kind| secret(png_chunk(kind, NEEDLE))));
    let shown = [b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs", b"PLTE", b"tRNS", b"bKGD", b"acTL"];
    pieces.extend(shown.map(|kind| kept(png_chunk(kind, b"shown"))));
    pieces.extend([
        kept(png_chunk(b"fcTL", b"frame")),
        kept(png_chunk(b"IDAT", b"picture")),
        kept(png_chunk(b"fdAT", b"picture two")),
        secret(png_chunk(b"eXIf", &gps_tiff(orientation))),
        secret(png_chunk(b"tEXt", NEEDLE)),
        kept(png_chunk(b"IEND", b"")),
        secret(NEEDLE),
    ]);
    pieces
}

pub(super) fn webp_chunk(kind: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap();
    let padding = if contents.len() % 2 == 1 { &[0][..] } else { &[] };
    [kind, &length.to_le_bytes()[..], contents, padding].concat()
}

/// The chunks behind a RIFF header that counts them.
pub(super) fn riff(chunks: &[u8]) -> Vec<u8> {
    let size = u32::try_from(chunks.len() + 4).unwrap();
    [b"RIFF", &size.to_le_bytes()[..], b"WEBP", chunks].concat()
}

pub(super) const CANVAS: &[u8] = &[0, 0, 0, 1, 0, 0, 1, 0, 0];

/// The chunks of an animated WebP with a profile, EXIF and XMP, without its RIFF header.
pub(super) fn webp_chunks(orientation: u8) -> Vec<Piece> {
    let frame = [&[7; 16][..], &webp_chunk(b"ALPH", b"alpha"), &webp_chunk(b"VP8 ", b"frame")].concat();
    vec![
        kept(webp_chunk(b"VP8X", &[&[0x32][..], CANVAS].concat())),
        kept(webp_chunk(b"ICCP", b"profile")),
        kept(webp_chunk(b"ANIM", &[9; 6])),
        kept(webp_chunk(b"ANMF", &frame)),
        secret(webp_chunk(b"EXIF", &gps_tiff(orientation))),
        secret(webp_chunk(b"XMP ", NEEDLE)),
        secret(webp_chunk(b"LIST", NEEDLE)),
    ]
}

fn extension(label: u8, blocks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x21, label];
    for block in blocks {
        bytes.push(u8::try_from(block.len()).unwrap());
        bytes.extend_from_slice(block);
    }
    bytes.push(0);
    bytes
}

pub(super) fn gif() -> Vec<Piece> {
    vec![
        kept(*b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF"),
        kept(extension(0xFF, &[b"NETSCAPE2.0", b"\x01\x05\0"])),
        secret(extension(0xFF, &[b"XMP DataXMP", NEEDLE])),
        secret(extension(0xFF, &[b"ICCRGBG1012", NEEDLE])),
        secret(extension(0xF9, &[b"\0\x01\0\0"])),
        secret(extension(0x01, &[&[0; 12], NEEDLE])),
        kept(extension(0xF9, &[b"\x01\x0A\0\0"])),
        secret(extension(0xFE, &[NEEDLE, NEEDLE])),
        kept(*b"\x2C\0\0\0\0\x01\0\x01\0\x00\x02\x02\x44\x01\0"),
        // The control of a text does not pass to the picture behind the text.
        secret(extension(0xF9, &[b"\0\x63\0\0"])),
        secret(extension(0x01, &[&[0; 12], NEEDLE])),
        kept(*b"\x2C\0\0\0\0\x01\0\x01\0\x00\x02\x02\x44\x01\0"),
        kept(*b"\x3B"),
        secret(NEEDLE),
    ]
}
