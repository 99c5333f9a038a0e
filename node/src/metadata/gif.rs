//! GIF: the GIF89a specification (CompuServe, 1990), and the loop count that Netscape added.

use super::{CannotStrip, Input};

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2C;
const TRAILER: u8 = 0x3B;
const PLAIN_TEXT: u8 = 0x01;
const GRAPHIC_CONTROL: u8 = 0xF9;
const APPLICATION: u8 = 0xFF;

pub(super) fn strip(picture: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    let mut input = Input(picture);
    let signature: [u8; 6] = input.array()?;
    if ![*b"GIF87a", *b"GIF89a"].contains(&signature) {
        return Err(CannotStrip::Malformed("it does not start as a GIF"));
    }
    let mut kept = Vec::with_capacity(picture.len());
    kept.extend(signature);
    let screen: [u8; 7] = input.array()?;
    kept.extend(screen);
    kept.extend_from_slice(colour_table(&mut input, screen[4])?);

    // Delay and transparency belong to what is drawn next; if that is a dropped text, they go with it.
    let mut control: Option<[u8; 4]> = None;
    let mut has_image = false;
    loop {
        match input.byte()? {
            TRAILER => break,
            EXTENSION => match input.byte()? {
                GRAPHIC_CONTROL => control = first_with_length(sub_blocks(&mut input)?),
                APPLICATION => {
                    if let Some(count) = loop_count(sub_blocks(&mut input)?) {
                        kept.extend([EXTENSION, APPLICATION, 11]);
                        kept.extend(*b"NETSCAPE2.0");
                        kept.extend([3, 1, count[0], count[1], 0]);
                    }
                }
                PLAIN_TEXT => {
                    sub_blocks(&mut input)?;
                    control = None;
                }
                // Comments, and what may have been invented since.
                _ => {
                    sub_blocks(&mut input)?;
                }
            },
            IMAGE => {
                if let Some(control) = control.take() {
                    kept.extend([EXTENSION, GRAPHIC_CONTROL, 4]);
                    kept.extend(control);
                    kept.push(0);
                }
                let descriptor: [u8; 9] = input.array()?;
                kept.push(IMAGE);
                kept.extend(descriptor);
                kept.extend_from_slice(colour_table(&mut input, descriptor[8])?);
                kept.push(input.byte()?);
                kept.extend_from_slice(sub_blocks(&mut input)?);
                has_image = true;
            }
            _ => return Err(CannotStrip::Malformed("an unknown block of a GIF")),
        }
    }
    if !has_image {
        return Err(CannotStrip::Malformed("a GIF without a picture"));
    }
    kept.push(TRAILER);
    Ok(kept)
}

/// The colour table that a packed field announces: up to 256 colours of three bytes.
fn colour_table<'a>(input: &mut Input<'a>, packed: u8) -> Result<&'a [u8], CannotStrip> {
    let present = packed & 0b1000_0000 != 0;
    input.take(if present { 3 << ((packed & 0b111) + 1) } else { 0 })
}

/// A chain of sub-blocks as it is in the file: each a length and so many bytes, the last one of length 0.
fn sub_blocks<'a>(input: &mut Input<'a>) -> Result<&'a [u8], CannotStrip> {
    let start = input.0;
    loop {
        let length = input.byte()?;
        input.take(length.into())?;
        if length == 0 {
            return Ok(&start[..start.len().saturating_sub(input.0.len())]);
        }
    }
}

/// The first sub-block of a chain, if it has the length asked for.
fn first_with_length<const N: usize>(chain: &[u8]) -> Option<[u8; N]> {
    let (length, rest) = chain.split_first()?;
    (usize::from(*length) == N).then(|| rest.first_chunk().copied())?
}

/// How often an animation is repeated, from the extension that is known under two names. Other sub-blocks of it, and
/// other applications (XMP, ICC, drawing programs), are not looked at.
fn loop_count(chain: &[u8]) -> Option<[u8; 2]> {
    let application: [u8; 11] = first_with_length(chain)?;
    if ![*b"NETSCAPE2.0", *b"ANIMEXTS1.0"].contains(&application) {
        return None;
    }
    match first_with_length(chain.get(12..)?)? {
        [1, low, high] => Some([low, high]),
        _ => None,
    }
}
