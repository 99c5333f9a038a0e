//! The one entry of EXIF that a picture needs to be shown upright: the orientation (CIPA DC-008, 4.6.4, tag 0x0112).

const ORIENTATION: [u8; 2] = 0x0112_u16.to_be_bytes();
const SHORT: [u8; 2] = 3_u16.to_be_bytes();

/// How a picture must be turned or mirrored to be upright: 2 to 8. Upright (1) needs no EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    /// The orientation that a TIFF structure states in its first directory. None for one that cannot be read: no
    /// viewer could read it either.
    pub(super) fn read(tiff: &[u8]) -> Option<Self> {
        let (byte_order, rest) = tiff.split_first_chunk()?;
        // Numbers are compared in the order of the file's bytes, turned to big-endian.
        let little = match byte_order {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let short = |bytes: [u8; 2]| if little { [bytes[1], bytes[0]] } else { bytes };
        let (magic, rest) = rest.split_first_chunk()?;
        if short(*magic) != [0, 42] {
            return None;
        }
        let offset: [u8; 4] = *rest.first_chunk()?;
        let offset = if little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) };
        let (count, entries) = tiff.get(usize::try_from(offset).ok()?..)?.split_first_chunk()?;
        let count = u16::from_be_bytes(short(*count));
        let entries = entries.as_chunks::<12>().0.iter().take(count.into());
        entries
            .filter(|entry| short([entry[0], entry[1]]) == ORIENTATION && short([entry[2], entry[3]]) == SHORT)
            .find_map(|entry| match short([entry[8], entry[9]]) {
                [0, value @ 2..=8] => Some(Self(value)),
                _ => None,
            })
    }

    /// The orientation in an `Exif` item, whose TIFF structure WebP and JPEG put behind this prefix.
    pub(super) fn read_prefixed(item: &[u8]) -> Option<Self> {
        Self::read(item.strip_prefix(b"Exif\0\0")?)
    }

    /// A TIFF structure of one directory with one entry.
    #[rustfmt::skip]
    pub(super) fn tiff(self) -> [u8; 26] {
        [
            b'M', b'M', 0, 42, 0, 0, 0, 8,
            0, 1,
            ORIENTATION[0], ORIENTATION[1], SHORT[0], SHORT[1], 0, 0, 0, 1, 0, self.0, 0, 0,
            0, 0, 0, 0,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::Orientation;
    use crate::metadata::samples;

    #[test]
    fn an_orientation_is_read_in_both_byte_orders_and_back_from_what_is_written() {
        for value in 2..=8 {
            assert_eq!(Orientation::read(&samples::gps_tiff(value)), Some(Orientation(value)));
            assert_eq!(Orientation::read(&Orientation(value).tiff()), Some(Orientation(value)));
        }
    }

    #[test]
    fn upright_and_unknown_orientations_are_none() {
        for value in [0, 1, 9] {
            assert_eq!(Orientation::read(&samples::gps_tiff(value)), None);
        }
    }

    #[test]
    fn a_directory_outside_of_the_item_is_none() {
        for tiff in
            [&b"II*\0\xFF\xFF\xFF\xFF"[..], b"MM\0*\0\0\0\x08\xFF\xFF\x01\x12", b"MM\0*", b"XX*\0\x08\0\0\0", b""]
        {
            assert_eq!(Orientation::read(tiff), None);
        }
    }
}
