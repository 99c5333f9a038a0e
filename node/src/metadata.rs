//! Removes from a picture everything but the picture, before it is sealed and sent: a photo's position is the address
//! of a shelter, its serial number names a phone, its thumbnail shows what was cut away.
//!
//! Out of scope: what the picture shows; data hidden in the pixels or in the compressed data on purpose; files that
//! are not pictures ([`FileKind::Other`]: a video, a PDF or a text document carries metadata, too).
//!
//! Invariants:
//! - What is kept is listed, format by format; everything else goes. Nothing is kept because it is unknown.
//! - A picture that is not understood from its first byte to its end marker is an error, never copied as it is.
//! - Compressed picture data is copied byte for byte; nothing is decoded or drawn again.
//! - One pass, one output of about the size of the input; no length from the file decides an allocation.
//!
//! The containers are walked here, not with a crate for editing them: those build a list of all segments first (a
//! hostile file of empty ones takes many times its size), and keep as one piece what follows the start of a JPEG's
//! scan or is inside a WebP's frame, where metadata hides as well.

mod exif;
mod gif;
mod jpeg;
mod kind;
mod png;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod webp;

pub use kind::{FileKind, kind};

/// Largest picture that [`strip`] takes, bytes: twice it is in memory. A 100-megapixel JPEG is about half of it.
pub const MAX_PICTURE_BYTES: usize = 64 * 1024 * 1024;

/// Why the metadata of a picture was not removed. The picture must not be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotStrip {
    /// The file does not follow its format; the text says where.
    #[error("remove the picture's metadata: the file is damaged: {0}")]
    Malformed(&'static str),
    /// The file may be sound, but this version cannot tell its picture from its metadata; the text says what it is.
    #[error("remove the picture's metadata: not possible for {0}; convert it to JPEG or PNG first")]
    Unsupported(&'static str),
    /// The file has more than [`MAX_PICTURE_BYTES`].
    #[error("remove the picture's metadata: the file is larger than {} MiB", MAX_PICTURE_BYTES / (1024 * 1024))]
    TooLarge,
}

/// The picture without EXIF, XMP, IPTC, comments, thumbnails, maker notes, times, texts, and without whatever follows
/// its end marker (the film of a motion photo). It keeps what it takes to look the same: colour profiles, gamma,
/// transparency, animation, and the EXIF orientation, in an EXIF block that holds nothing else.
///
/// Stripping its own output changes nothing.
///
/// # Errors
///
/// See [`CannotStrip`]; for any error the file must not be sent as it is.
pub fn strip(picture: &[u8]) -> Result<Vec<u8>, CannotStrip> {
    if picture.len() > MAX_PICTURE_BYTES {
        return Err(CannotStrip::TooLarge);
    }
    match kind(picture) {
        FileKind::Jpeg => jpeg::strip(picture),
        FileKind::Png => png::strip(picture),
        FileKind::Webp => webp::strip(picture),
        FileKind::Gif => gif::strip(picture),
        FileKind::OtherImage => Err(CannotStrip::Unsupported("a picture in this format")),
        FileKind::Other => Err(CannotStrip::Unsupported("a file that is not a picture")),
    }
}

/// What is left to read of a file. Reading past the end is an error, never a panic.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CannotStrip> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CannotStrip::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CannotStrip> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CannotStrip::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, CannotStrip> {
        self.array().map(|[byte]| byte)
    }
}
