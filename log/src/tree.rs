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
    tlog::{self, HASH_SIZE, Hash, HashReader, node_hash},
};

use crate::{
    disk::{Disk, overlay::OverlayDisk, read_file},
    tiles::{self, WIDTH},
};

/// Full tiles kept with their nodes: 8 MiB.
const CACHED_TILES: usize = 512;
const HEIGHT: u8 = 8;

/// A tile with every node above its hashes that is complete: by height, from left to right.
#[derive(Clone, Debug, Default)]
struct Nodes {
    nodes: [Vec<Hash>; HEIGHT as usize],
}

impl Nodes {
    /// The tile's bytes.
    fn data(&self) -> Vec<u8> {
        self.nodes[0].iter().flat_map(|hash| hash.0).collect()
    }

    /// Adds a hash; when it was the last one, the root of the full tile.
    fn push(&mut self, hash: Hash) -> Option<Hash> {
        let mut node = hash;
        for height in 0..self.nodes.len() {
            self.nodes[height].push(node);
            let count = self.nodes[height].len();
            if count % 2 == 1 {
                return None;
            }
            node = node_hash(self.nodes[height][count - 2], node);
        }
        Some(node)
    }

    /// The full tile of these bytes, and its root.
    fn of(data: &[u8]) -> Option<(Self, Hash)> {
        let (mut nodes, mut root) = (Self::default(), None);
        let (hashes, rest) = data.as_chunks::<HASH_SIZE>();
        if hashes.len() as u64 != WIDTH || !rest.is_empty() {
            return None;
        }
        hashes.iter().for_each(|hash| root = nodes.push(Hash(*hash)));
        root.map(|root| (nodes, root))
    }

    /// A node, by its height and its place in the tile.
    fn node(&self, height: u8, place: u64) -> Option<Hash> {
        self.nodes.get(usize::from(height))?.get(usize::try_from(place).ok()?).copied()
    }
}

type TileCache = HashMap<(u8, u64), Arc<Nodes>>;

/// A tree of leaf hashes.
pub struct Tree {
    disk: Arc<dyn Disk>,
    size: u64,
    /// Per tile level, the tile that is not full yet.
    edges: Vec<Arc<Nodes>>,
    /// Per tile level, the tile that became full last, with its number: receipts may still ask for it.
    last: Vec<(u64, Arc<Nodes>)>,
    cache: Mutex<TileCache>,
}

impl Tree {
    /// The empty tree whose full tiles are kept on `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, size: 0, edges: Vec::new(), last: Vec::new(), cache: Mutex::default() }
    }

    /// The same tree, to try what further leaves would make of it: nothing is written.
    #[must_use]
    pub fn trial(&self) -> Self {
        let disk = Arc::new(OverlayDisk::new(Arc::clone(&self.disk)));
        let (edges, last) = (self.edges.clone(), self.last.clone());
        Self { disk, size: self.size, edges, last, cache: Mutex::default() }
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
                self.edges.push(Arc::default());
            }
            let Some(root) = Arc::make_mut(&mut self.edges[index]).push(hash) else { break };
            let full = std::mem::take(&mut self.edges[index]);
            let number = (self.size >> (u32::from(HEIGHT) * u32::from(level))) / WIDTH;
            self.write_tile(level, number, &full.data())?;
            match self.last.get_mut(index) {
                Some(last) => *last = (number, full),
                None => self.last.push((number, full)),
            }
            hash = root;
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
        let data = self.nodes(level, index)?.data();
        data.get(..width as usize * HASH_SIZE).map(<[u8]>::to_vec).ok_or(tlog::Error::InvalidTile)
    }

    fn check_size(&self, size: u64) -> Result<(), tlog::Error> {
        if size > self.size { Err(tlog::Error::IndexesNotInTree) } else { Ok(()) }
    }

    /// Number of full tiles of a level.
    fn full_tiles(&self, level: u8) -> u64 {
        self.size.checked_shr(u32::from(HEIGHT) * (u32::from(level) + 1)).unwrap_or(0)
    }

    fn nodes(&self, level: u8, index: u64) -> Result<Arc<Nodes>, tlog::Error> {
        let full = self.full_tiles(level);
        if index >= full {
            let edge = self.edges.get(usize::from(level)).filter(|_| index == full);
            return edge.cloned().ok_or(tlog::Error::IndexesNotInTree);
        }
        if let Some((_, nodes)) = self.last.get(usize::from(level)).filter(|(number, _)| *number == index) {
            return Ok(Arc::clone(nodes));
        }
        if let Some(nodes) = self.lock().get(&(level, index)) {
            return Ok(Arc::clone(nodes));
        }
        let path = tiles::tile_path(level, index, 256);
        let data = read_file(self.disk.as_ref(), &path, WIDTH * HASH_SIZE as u64)
            .map_err(|e| tlog::Error::InvalidInput(format!("tile {path}: {e}")))?;
        // The hash of a full tile stands in the tile above, which is checked in its turn up to the edge in memory.
        let expected = self.nodes(level + 1, index / WIDTH)?.node(0, index % WIDTH);
        match Nodes::of(&data) {
            Some((nodes, root)) if Some(root) == expected => {
                let nodes = Arc::new(nodes);
                let mut cache = self.lock();
                if cache.len() >= CACHED_TILES {
                    cache.clear();
                }
                cache.insert((level, index), Arc::clone(&nodes));
                Ok(nodes)
            }
            _ => Err(tlog::Error::InvalidInput(format!("tile {path} is damaged"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TileCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let read = |&index: &u64| {
            let tile = Tile::from_index(HEIGHT, index);
            let (level, number) = tlog::split_stored_hash_index(index);
            let height = level - tile.level() * HEIGHT;
            let place = number - (tile.level_index() << (HEIGHT - height));
            let nodes = self.nodes(tile.level(), tile.level_index())?;
            nodes.node(height, place).ok_or(tlog::Error::IndexesNotInTree)
        };
        indexes.iter().map(read).collect()
    }
}
