//! The Merkle tree: the right edge in memory, full tiles in files that are written once and checked when read back.
//!
//! The tile files are made from the leaves and may be lost: every start compares and rewrites them.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tlog_tiles::{
    Tile,
    tlog::{self, HASH_SIZE, Hash, HashReader},
};

use crate::{
    disk::{Disk, overlay::OverlayDisk, read_file},
    tiles::{self, WIDTH},
};

/// Full tiles kept after reading: 8 MiB.
const CACHED_TILES: usize = 1024;
const HEIGHT: u8 = 8;

type TileCache = HashMap<(u8, u64), Arc<Vec<u8>>>;

/// A tree of leaf hashes.
pub struct Tree {
    disk: Arc<dyn Disk>,
    size: u64,
    /// Per tile level, the hashes behind the last full tile.
    edges: Vec<Vec<Hash>>,
    cache: Mutex<TileCache>,
}

impl Tree {
    /// The empty tree whose full tiles are kept on `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, size: 0, edges: Vec::new(), cache: Mutex::default() }
    }

    /// The same tree, to try what further leaves would make of it: nothing is written.
    #[must_use]
    pub fn trial(&self) -> Self {
        let disk = Arc::new(OverlayDisk::new(Arc::clone(&self.disk)));
        Self { disk, size: self.size, edges: self.edges.clone(), cache: Mutex::default() }
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf hash.
    ///
    /// # Errors
    /// When a completed tile cannot be written.
    pub fn append(&mut self, leaf: Hash) -> io::Result<()> {
        let mut hash = leaf;
        for level in 0_u8.. {
            let index = usize::from(level);
            if self.edges.len() == index {
                self.edges.push(Vec::with_capacity(256));
            }
            self.edges[index].push(hash);
            if (self.edges[index].len() as u64) < WIDTH {
                break;
            }
            let data = concat(&std::mem::take(&mut self.edges[index]));
            let number = (self.size >> (u32::from(HEIGHT) * u32::from(level))) / WIDTH;
            self.write_tile(level, number, &data)?;
            hash = Tile::subtree_hash(&data);
        }
        self.size += 1;
        Ok(())
    }

    fn write_tile(&self, level: u8, number: u64, data: &[u8]) -> io::Result<()> {
        let path = tiles::tile_path(level, number, 256);
        match read_file(self.disk.as_ref(), &path, data.len() as u64) {
            Ok(found) if found == data => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData) => self.disk.remove(&path)?,
            Err(e) => return Err(e),
        }
        let file = match self.disk.create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&path)?,
            file => file?,
        };
        file.write_at(data, 0)
    }

    /// Root of the tree at its present or an earlier size.
    ///
    /// # Errors
    /// When the size is larger than the tree, or a tile is damaged.
    pub fn root(&self, size: u64) -> Result<Hash, tlog::Error> {
        self.check_size(size)?;
        tlog::tree_hash(size, self)
    }

    /// Inclusion proof of an entry in the tree of `size`.
    ///
    /// # Errors
    /// When there is no such entry or size, or a tile is damaged.
    pub fn prove_inclusion(&self, size: u64, index: u64) -> Result<Vec<Hash>, tlog::Error> {
        self.check_size(size)?;
        if index >= size {
            return Err(tlog::Error::IndexesNotInTree);
        }
        tlog::prove_record(size, index, self)
    }

    /// Consistency proof between two sizes, 1 <= `old` <= `new`.
    ///
    /// # Errors
    /// When there are no such sizes, or a tile is damaged.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, tlog::Error> {
        self.check_size(new)?;
        if old == 0 || old > new {
            return Err(tlog::Error::IndexesNotInTree);
        }
        tlog::prove_tree(new, old, self)
    }

    /// The first `width` hashes of a tile.
    ///
    /// # Errors
    /// When there is no such tile, or it is damaged.
    pub fn tile(&self, level: u8, index: u64, width: u32) -> Result<Vec<u8>, tlog::Error> {
        if width == 0 || width > tiles::width(self.size, level, index) {
            return Err(tlog::Error::IndexesNotInTree);
        }
        let data = self.tile_data(level, index)?;
        data.get(..width as usize * HASH_SIZE).map(<[u8]>::to_vec).ok_or(tlog::Error::InvalidTile)
    }

    fn check_size(&self, size: u64) -> Result<(), tlog::Error> {
        if size > self.size { Err(tlog::Error::IndexesNotInTree) } else { Ok(()) }
    }

    fn tile_data(&self, level: u8, index: u64) -> Result<Arc<Vec<u8>>, tlog::Error> {
        let full = self.size.checked_shr(u32::from(HEIGHT) * (u32::from(level) + 1)).unwrap_or(0);
        if index >= full {
            let edge = self.edges.get(usize::from(level)).filter(|_| index == full);
            return edge.map(|hashes| Arc::new(concat(hashes))).ok_or(tlog::Error::IndexesNotInTree);
        }
        if let Some(data) = self.lock().get(&(level, index)) {
            return Ok(Arc::clone(data));
        }
        let path = tiles::tile_path(level, index, 256);
        let data = read_file(self.disk.as_ref(), &path, WIDTH * HASH_SIZE as u64)
            .map_err(|e| tlog::Error::InvalidInput(format!("tile {path}: {e}")))?;
        // The hash of a full tile stands in the tile above, which is checked in its turn up to the edge in memory.
        let above = self.tile_data(level + 1, index / WIDTH)?;
        let start = usize::try_from(index % WIDTH).unwrap_or(0) * HASH_SIZE;
        let expected = above.get(start..start + HASH_SIZE);
        if data.len() as u64 != WIDTH * HASH_SIZE as u64 || expected != Some(&Tile::subtree_hash(&data).0[..]) {
            return Err(tlog::Error::InvalidInput(format!("tile {path} is damaged")));
        }
        let data = Arc::new(data);
        let mut cache = self.lock();
        if cache.len() >= CACHED_TILES {
            cache.clear();
        }
        cache.insert((level, index), Arc::clone(&data));
        Ok(data)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TileCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let read = |&index: &u64| {
            let tile = Tile::from_index(HEIGHT, index);
            let data = self.tile_data(tile.level(), tile.level_index())?;
            tile.hash_at_index(&data, index)
        };
        indexes.iter().map(read).collect()
    }
}

fn concat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
