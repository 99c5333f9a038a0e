//! C2SP tlog-tiles: paths of tiles and entry bundles, and the bundle encoding. Height 8.

use liaison_proto::Bytes;

/// Hashes or entries of a full tile or bundle.
pub const WIDTH: u64 = 256;

/// Width of the tile or bundle `index` at `level` in a tree of `size` entries; 0 when it does not exist.
#[must_use]
pub fn width(size: u64, level: u8, index: u64) -> u32 {
    let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    let width = index.checked_mul(WIDTH).map_or(0, |start| hashes.saturating_sub(start).min(WIDTH));
    u32::try_from(width).unwrap_or(0)
}

fn number(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

fn path(kind: &str, index: u64, width: u32) -> String {
    let partial = if u64::from(width) == WIDTH { String::new() } else { format!(".p/{width}") };
    format!("tile/{kind}/{}{partial}", number(index))
}

/// Path of a hash tile.
#[must_use]
pub fn tile_path(level: u8, index: u64, width: u32) -> String {
    path(&level.to_string(), index, width)
}

/// Path of an entry bundle.
#[must_use]
pub fn bundle_path(index: u64, width: u32) -> String {
    path("entries", index, width)
}

/// Encodes entries: each with its length as a big-endian 16-bit number.
#[must_use]
pub fn encode_bundle(entries: &[Bytes]) -> Option<Vec<u8>> {
    let mut bundle = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 2).sum());
    for entry in entries {
        bundle.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Some(bundle)
}

/// Decodes exactly `width` entries; none when the bytes hold more or less.
#[must_use]
pub fn decode_bundle(bundle: &Bytes, width: u32) -> Option<Vec<Bytes>> {
    let mut entries = Vec::new();
    let mut offset = 0;
    for _ in 0..width {
        let length = u16::from_be_bytes(*bundle.get(offset..)?.first_chunk()?);
        let (start, end) = (offset + 2, offset + 2 + usize::from(length));
        if end > bundle.len() {
            return None;
        }
        entries.push(bundle.slice(start..end));
        offset = end;
    }
    (offset == bundle.len()).then_some(entries)
}
