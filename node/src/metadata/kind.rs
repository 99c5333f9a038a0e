//! What a file is, by its first bytes and never by its name: a renamed photo keeps its position.

/// What a file's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// JPEG (ITU-T T.81).
    Jpeg,
    /// PNG or animated PNG.
    Png,
    /// WebP (RFC 9649).
    Webp,
    /// GIF87a or GIF89a.
    Gif,
    /// A picture in a format that is known to carry metadata and that this version cannot clean: HEIC, AVIF, TIFF and
    /// the raw formats made of it, other raw formats, BMP, JPEG 2000, JPEG XL, Photoshop, MNG, SVG.
    OtherImage,
    /// Not a known picture. It may carry metadata all the same: a film, a PDF and a text document do.
    Other,
}

/// Formats with a fixed start.
const STARTS: &[(&[u8], FileKind)] = &[
    // No more than viewers ask for: what they open must not pass as Other.
    (b"\xFF\xD8", FileKind::Jpeg),
    (b"\x89PNG", FileKind::Png),
    (b"GIF8", FileKind::Gif),
    // TIFF and BigTIFF, with them DNG, CR2, NEF, ARW
    (b"II*\0", FileKind::OtherImage),
    (b"MM\0*", FileKind::OtherImage),
    (b"II+\0", FileKind::OtherImage),
    (b"MM\0+", FileKind::OtherImage),
    // raw formats: Panasonic, Olympus, Canon, Fujifilm, Sigma, Minolta
    (b"IIU\0", FileKind::OtherImage),
    (b"IIRO", FileKind::OtherImage),
    (b"IIRS", FileKind::OtherImage),
    (b"MMOR", FileKind::OtherImage),
    (b"II\x1A\0", FileKind::OtherImage),
    (b"FUJIFILMCCD-RAW", FileKind::OtherImage),
    (b"FOVb", FileKind::OtherImage),
    (b"\0MRM", FileKind::OtherImage),
    // JPEG 2000 and JPEG XL, as files and as bare codestreams
    (b"\0\0\0\x0CjP  ", FileKind::OtherImage),
    (b"\xFF\x4F\xFF\x51", FileKind::OtherImage),
    (b"\0\0\0\x0CJXL ", FileKind::OtherImage),
    (b"\xFF\x0A", FileKind::OtherImage),
    // Photoshop, MNG, JNG
    (b"8BPS", FileKind::OtherImage),
    (b"\x8AMNG", FileKind::OtherImage),
    (b"\x8BJNG", FileKind::OtherImage),
];

/// Brands of still pictures and their sequences in an ISO base media file (ISO/IEC 23008-12, AVIF, Canon CR3). The
/// brands of films are not here.
const PICTURE_BRANDS: &[&[u8; 4]] = &[
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf",
    b"avif", b"avis", b"avio", b"jpeg", b"jpgs", b"j2ki", b"vvic", b"crx ",
];

/// Sizes of a BMP's second header, which tell a bitmap from a text that starts with "BM".
const BMP_HEADERS: &[u32] = &[12, 16, 40, 52, 56, 64, 108, 124];

/// What the first bytes of a file say it is. The first KiB is enough; with fewer bytes an [`FileKind::OtherImage`] may
/// be taken for [`FileKind::Other`].
pub fn kind(first_bytes: &[u8]) -> FileKind {
    if let Some((_, kind)) = STARTS.iter().find(|(start, _)| first_bytes.starts_with(start)) {
        return *kind;
    }
    if first_bytes.starts_with(b"RIFF") && first_bytes.get(8..12) == Some(b"WEBP") {
        return FileKind::Webp;
    }
    if is_bmp(first_bytes) || has_picture_brand(first_bytes) || is_svg(first_bytes) {
        return FileKind::OtherImage;
    }
    FileKind::Other
}

fn is_bmp(first_bytes: &[u8]) -> bool {
    let header = first_bytes.get(14..).and_then(|rest| rest.first_chunk()).map(|size| u32::from_le_bytes(*size));
    first_bytes.starts_with(b"BM") && header.is_some_and(|size| BMP_HEADERS.contains(&size))
}

/// Whether the file type box names a picture among its brands: the major brand, the minor version, the compatible ones.
fn has_picture_brand(first_bytes: &[u8]) -> bool {
    let Some((size, rest)) = first_bytes.split_first_chunk() else { return false };
    let Some(after_type) = rest.strip_prefix(b"ftyp") else { return false };
    // A size of 0 or 1 has another meaning, for which no picture has a use: then all there is counts.
    let length = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX).checked_sub(8);
    let brands = length.and_then(|length| after_type.get(..length)).unwrap_or(after_type);
    brands.as_chunks().0.iter().any(|brand| PICTURE_BRANDS.contains(&brand))
}

fn is_svg(first_bytes: &[u8]) -> bool {
    let text = first_bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first_bytes).trim_ascii_start();
    let starts: [&[u8]; 4] = [b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg"];
    starts.iter().any(|start| text.starts_with(start)) && text.windows(4).any(|word| word == b"<svg")
}

#[cfg(test)]
mod tests {
    use super::{FileKind::*, kind};

    #[test]
    fn a_picture_is_known_by_its_first_bytes() {
        let heif_with_an_unknown_major_brand = b"\0\0\0\x18ftypabcd\0\0\0\0mif1heic";
        for (first_bytes, expected) in [
            (&b"\xFF\xD8\xFF\xE0"[..], Jpeg),
            (b"\x89PNG\r\n\x1A\n", Png),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Webp),
            (b"GIF89a", Gif),
            (b"II*\0\x08\0\0\0", OtherImage),
            (b"MM\0*\0\0\0\x08", OtherImage),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", OtherImage),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", OtherImage),
            (b"\0\0\0\x1Cftypavif\0\0\0\0", OtherImage),
            (b"\0\0\0\0ftypcrx ", OtherImage),
            (heif_with_an_unknown_major_brand, OtherImage),
            (b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<svg xmlns=", OtherImage),
        ] {
            assert_eq!(kind(first_bytes), expected, "{}", first_bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_picture_is_other() {
        for first_bytes in [
            &b""[..],
            b"%PDF-1.7",
            b"BMW, black, plate 51A-123.45",
            b"RIFF\x10\0\0\0WAVEfmt ",
            b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
            b"<?xml version=\"1.0\"?><notice/>",
            b"\0\0\0\x18fty",
        ] {
            assert_eq!(kind(first_bytes), Other, "{}", first_bytes.escape_ascii());
        }
    }
}
