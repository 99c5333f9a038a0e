//! JPEG: ITU-T T.81, annex B; JFIF (T.871); the application segments of CIPA DC-008 (Exif) and ICC.1, annex B.4.
//!
//! Kept: tables, frames, scans, JFIF without its thumbnail, Adobe's colour transform, the ICC profile.

use super::{CannotStrip, Input, exif::Orientation};

const SOF0: u8 = 0xC0;
const DHT: u8 = 0xC4;
const JPG: u8 = 0xC8;
const DAC: u8 = 0xCC;
const SOF15: u8 = 0xCF;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP2: u8 = 0xE2;
const APP14: u8 = 0xEE;
const APP15: u8 = 0xEF;
const COM: u8 = 0xFE;

pub(super) fn strip(picture: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    let mut input = Input(picture);
    if input.array()? != [0xFF, SOI] {
        return Err(CannotStrip::Malformed("it does not start as a JPEG"));
    }
    let mut kept = Vec::with_capacity(picture.len());
    kept.extend([0xFF, SOI]);
    let mut exif_at = None;
    let mut orientation = None;
    let (mut frames, mut scans) = (0_usize, 0_usize);
    loop {
        let marker = next_marker(&mut input)?;
        match marker {
            EOI => break,
            // They have no length and, behind the end of a scan, no meaning.
            RST0..=RST7 => continue,
            SOF0..=SOF15 | SOS..=APP15 | COM if marker != JPG => {}
            SOI => return Err(CannotStrip::Malformed("a JPEG inside the JPEG")),
            // JPEG-LS and others live here: dropping their segments would break the picture, keeping is a guess.
            _ => return Err(CannotStrip::Unsupported("a JPEG with extensions")),
        }
        let contents = segment(&mut input)?;
        match marker {
            APP0 => {
                if let Some(jfif) = without_thumbnail(contents).filter(|_| exif_at.is_none()) {
                    write_segment(&mut kept, APP0, &jfif)?;
                    // JFIF wants to be first, and readers then look for EXIF behind it.
                    exif_at = Some(kept.len());
                }
            }
            APP1 => orientation = orientation.or_else(|| Orientation::read_prefixed(contents)),
            APP2 if contents.starts_with(b"ICC_PROFILE\0") => write_segment(&mut kept, APP2, contents)?,
            APP14 if contents.starts_with(b"Adobe") => {
                // Twelve bytes are defined: name, version, two flag words, transform.
                let defined = contents.get(..12).ok_or(CannotStrip::Malformed("a short Adobe segment"))?;
                write_segment(&mut kept, APP14, defined)?;
            }
            APP0..=APP15 | COM => {}
            SOS => {
                write_segment(&mut kept, SOS, contents)?;
                kept.extend_from_slice(scan(&mut input)?);
                scans = scans.saturating_add(1);
            }
            _ => {
                write_segment(&mut kept, marker, contents)?;
                // Of SOF0..=SOF15, these three are no frame headers.
                frames = frames.saturating_add(usize::from(marker <= SOF15 && ![DHT, JPG, DAC].contains(&marker)));
            }
        }
    }
    if frames == 0 || scans == 0 {
        return Err(CannotStrip::Malformed("a JPEG without a picture"));
    }
    kept.extend([0xFF, EOI]);
    if let Some(orientation) = orientation {
        let mut exif = Vec::new();
        write_segment(&mut exif, APP1, &[&b"Exif\0\0"[..], &orientation.tiff()].concat())?;
        let at = exif_at.unwrap_or(2);
        kept.splice(at..at, exif);
    }
    Ok(kept)
}

/// The next marker's code. Bytes between segments are passed over, as decoders do, and are not kept.
fn next_marker(input: &mut Input<'_>) -> Result<u8, CannotStrip> {
    loop {
        while input.byte()? != 0xFF {}
        let mut code = input.byte()?;
        while code == 0xFF {
            code = input.byte()?;
        }
        if code != 0 {
            return Ok(code);
        }
    }
}

/// The contents of a segment; its length counts itself.
fn segment<'a>(input: &mut Input<'a>) -> Result<&'a [u8], CannotStrip> {
    let length = u16::from_be_bytes(input.array()?).checked_sub(2);
    input.take(length.ok_or(CannotStrip::Malformed("a segment without its length"))?.into())
}

/// The entropy-coded data up to the next marker that is not a restart. 0xFF before 0x00 is data, before 0xFF filling.
fn scan<'a>(input: &mut Input<'a>) -> Result<&'a [u8], CannotStrip> {
    let is_end = |pair: &[u8; 2]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | RST0..=RST7);
    let length = input.0.array_windows().position(is_end);
    input.take(length.ok_or(CannotStrip::Malformed("a scan without an end"))?)
}

/// The JFIF header, saying that its thumbnail is 0 by 0. None for other uses of APP0: JFXX is another thumbnail.
fn without_thumbnail(contents: &[u8]) -> Option<[u8; 14]> {
    let mut header: [u8; 14] = *contents.first_chunk()?;
    header[12..].fill(0);
    header.starts_with(b"JFIF\0").then_some(header)
}

fn write_segment(kept: &mut Vec<u8>, marker: u8, contents: &[u8]) -> Result<(), CannotStrip> {
    let length = contents.len().checked_add(2).and_then(|length| u16::try_from(length).ok());
    let length = length.ok_or(CannotStrip::Malformed("a segment longer than a segment can be"))?;
    kept.extend([0xFF, marker]);
    kept.extend(length.to_be_bytes());
    kept.extend_from_slice(contents);
    Ok(())
}
