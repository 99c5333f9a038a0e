//! WebP: RFC 9649. RIFF chunks, in animations nested one level deep; no recursion.

use super::{CannotStrip, Input, exif::Orientation};

/// Flags of the VP8X chunk. The ones for EXIF and XMP go with their chunks, reserved ones are cleared.
const ICC_ALPHA_ANIMATION: u8 = 0b0011_0010;
const EXIF: u8 = 0b0000_1000;

/// The still picture or, inside of an animation's frame, the frame's picture.
const IMAGE: &[&[u8; 4]] = &[b"VP8 ", b"VP8L", b"ALPH"];

/// A chunk's kind and its contents.
type Chunk<'a> = ([u8; 4], &'a [u8]);

pub(super) fn strip(picture: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    let mut input = Input(picture);
    let [riff, size, webp]: [[u8; 4]; 3] = [input.array()?, input.array()?, input.array()?];
    if (&riff, &webp) != (b"RIFF", b"WEBP") {
        return Err(CannotStrip::Malformed("it does not start as a WebP"));
    }
    let size = length_of(size)?.checked_sub(4).ok_or(CannotStrip::Malformed("a WebP without a size"))?;
    // What is behind the size in the header is not part of the picture.
    let mut input = Input(input.take(size)?);

    let mut kept = Vec::with_capacity(picture.len());
    kept.extend(*b"RIFF\0\0\0\0WEBP");
    let mut flags_at = None;
    let mut orientation = None;
    let mut has_image = false;
    while let Some((kind, contents)) = chunk(&mut input)? {
        match &kind {
            b"VP8X" if flags_at.is_none() => {
                let defined: [u8; 10] = *contents.first_chunk().ok_or(CannotStrip::Malformed("a short VP8X chunk"))?;
                let [flags, _, _, _, canvas @ ..] = defined;
                flags_at = Some(kept.len().saturating_add(8));
                let header = [&[flags & ICC_ALPHA_ANIMATION, 0, 0, 0][..], &canvas].concat();
                write_chunk(&mut kept, kind, &header)?;
            }
            b"ICCP" => write_chunk(&mut kept, kind, contents)?,
            b"ANIM" => {
                let defined = contents.get(..6).ok_or(CannotStrip::Malformed("a short ANIM chunk"))?;
                write_chunk(&mut kept, kind, defined)?;
            }
            b"ANMF" => {
                write_chunk(&mut kept, kind, &frame(contents)?)?;
                has_image = true;
            }
            b"EXIF" => {
                // The standard has a bare TIFF structure here; some programs write JPEG's prefix.
                let read = || Orientation::read(contents).or_else(|| Orientation::read_prefixed(contents));
                orientation = orientation.or_else(read);
            }
            _ if IMAGE.contains(&&kind) => {
                write_chunk(&mut kept, kind, contents)?;
                has_image |= kind != *b"ALPH";
            }
            _ => {}
        }
    }
    if !has_image {
        return Err(CannotStrip::Malformed("a WebP without a picture"));
    }
    // Without a VP8X chunk no reader looks for EXIF, and the orientation had no effect before.
    if let (Some(orientation), Some(flags)) = (orientation, flags_at.and_then(|at| kept.get_mut(at))) {
        *flags |= EXIF;
        write_chunk(&mut kept, *b"EXIF", &orientation.tiff())?;
    }
    let size = riff_size(kept.len().saturating_sub(8))?;
    kept[4..8].copy_from_slice(&size);
    Ok(kept)
}

/// A frame of an animation: sixteen bytes of place and time, then the chunks of one picture.
fn frame(contents: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    let mut input = Input(contents);
    let mut kept = input.take(16)?.to_vec();
    while let Some((kind, contents)) = chunk(&mut input)? {
        if IMAGE.contains(&&kind) {
            write_chunk(&mut kept, kind, contents)?;
        }
    }
    Ok(kept)
}

/// The next chunk; none at the end. A chunk of an odd size has a byte of padding, which some leave out at the end.
fn chunk<'a>(input: &mut Input<'a>) -> Result<Option<Chunk<'a>>, CannotStrip> {
    if input.0.is_empty() {
        return Ok(None);
    }
    let kind = input.array()?;
    let size = length_of(input.array()?)?;
    let contents = input.take(size)?;
    if size % 2 == 1 && !input.0.is_empty() {
        input.byte()?;
    }
    Ok(Some((kind, contents)))
}

fn write_chunk(kept: &mut Vec<u8>, kind: [u8; 4], contents: &[u8]) -> Result<(), CannotStrip> {
    kept.extend(kind);
    kept.extend(riff_size(contents.len())?);
    kept.extend_from_slice(contents);
    if contents.len() % 2 == 1 {
        kept.push(0);
    }
    Ok(())
}

fn length_of(size: [u8; 4]) -> Result<usize, CannotStrip> {
    usize::try_from(u32::from_le_bytes(size)).map_err(|_| CannotStrip::Malformed("a chunk longer than memory"))
}

fn riff_size(length: usize) -> Result<[u8; 4], CannotStrip> {
    u32::try_from(length).map(u32::to_le_bytes).map_err(|_| CannotStrip::Malformed("a chunk longer than RIFF can say"))
}
