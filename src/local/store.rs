//! The memory of one in-process server: bounded, least useful entries evicted first, a time to live per entry.
//!
//! Invariants: an expired entry is never returned; `weight() <= capacity` after every call; an entry's weight is its
//! key, the memory of its value and [`ENTRY_OVERHEAD`], whatever was written over it or appended to it.
//! One thread owns it; nothing is allocated before something is stored.

use std::mem;

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

/// Unix time in milliseconds. Signed, as in Redis, where a time before 1970 is legal (and past).
pub type Millis = i64;

/// What an entry costs besides its key and value, in bytes: its place in the cache's slab and table (both grow by
/// doubling) and the allocator's rounding of two blocks.
pub const ENTRY_OVERHEAD: usize = 160;

/// No entry may need more than this share of the memory.
const MAX_ITEM_SHARE: u64 = 4;

/// Evicted keys are remembered (8 bytes of hash in a slab entry) for every so many bytes of capacity.
const BYTES_PER_GHOST: u64 = 4096;

/// One value and what both protocols know about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    pub value: Vec<u8>,
    /// memcached's client flags; 0 for Redis.
    pub flags: u32,
    /// Changes with every write of the value; set by the store.
    pub cas: u64,
    /// `None`: never.
    pub expires_at: Option<Millis>,
}

impl Item {
    fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The value is over the share of the memory that one entry may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("object too large for cache")]
pub struct TooLarge;

/// Bounded memory from keys to items.
pub struct Store {
    cache: ItemCache,
    capacity: u64,
    last_cas: u64,
    evictions: u64,
}

type ItemCache = Cache<Box<[u8]>, Item, ByBytes, DefaultHashBuilder, CountEvictions>;

impl Store {
    /// An empty store of at most `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self { cache: empty_cache(capacity), capacity, last_cas: 0, evictions: 0 }
    }

    /// The most bytes that a key and its value may have together.
    pub fn max_item_bytes(&self) -> usize {
        usize::try_from(self.capacity / MAX_ITEM_SHARE).unwrap_or(usize::MAX).saturating_sub(ENTRY_OVERHEAD)
    }

    /// Whether a value of this length could be stored under this key.
    pub fn check_size(&self, key: &[u8], value_len: usize) -> Result<(), TooLarge> {
        let weight = (key.len() + ENTRY_OVERHEAD).saturating_add(value_len) as u64;
        if weight > self.capacity / MAX_ITEM_SHARE { Err(TooLarge) } else { Ok(()) }
    }

    /// The live item under `key`; one that has expired is removed.
    pub fn get(&mut self, key: &[u8], now: Millis) -> Option<&Item> {
        self.drop_expired(key, now);
        self.cache.get(key)
    }

    /// The live item under `key`, without a trace: an expired one is left where it is, hotness is not touched.
    pub fn peek(&self, key: &[u8], now: Millis) -> Option<&Item> {
        self.cache.peek(key).filter(|item| !item.is_expired(now))
    }

    /// Stores a value, whatever was there before, under a new `cas`.
    pub fn set(&mut self, key: &[u8], value: Vec<u8>, flags: u32, expires_at: Option<Millis>) -> Result<(), TooLarge> {
        self.check_size(key, value.len())?;
        self.last_cas += 1;
        let item = Item { value, flags, cas: self.last_cas, expires_at };
        self.cache.insert_with_lifecycle(key.into(), item, &mut self.evictions);
        Ok(())
    }

    /// Changes a live value in place, keeping flags and expiry, under a new `cas`. `new_len` is the length that
    /// `change` will leave. `Ok(None)`: there is no such key.
    pub fn edit<R>(
        &mut self,
        key: &[u8],
        now: Millis,
        new_len: usize,
        change: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<Option<R>, TooLarge> {
        self.check_size(key, new_len)?;
        self.drop_expired(key, now);
        let Some(mut item) = self.cache.get_mut(key) else { return Ok(None) };
        let result = change(&mut item.value);
        debug_assert_eq!(item.value.len(), new_len, "the caller announced another length");
        self.last_cas += 1;
        item.cas = self.last_cas;
        drop(item); // the cache weighs it again here, but evicts only when something is inserted
        self.evict_after_growth(key);
        Ok(Some(result))
    }

    /// Gives a live item another expiry; the previous one is returned. `None`: there is no such key.
    pub fn set_expiry(&mut self, key: &[u8], now: Millis, expires_at: Option<Millis>) -> Option<Option<Millis>> {
        self.drop_expired(key, now);
        let mut item = self.cache.get_mut(key)?;
        Some(mem::replace(&mut item.expires_at, expires_at))
    }

    /// Takes a live item out.
    pub fn remove(&mut self, key: &[u8], now: Millis) -> Option<Item> {
        self.cache.remove(key).map(|(_, item)| item).filter(|item| !item.is_expired(now))
    }

    /// Removes everything and gives the memory back.
    pub fn clear(&mut self) {
        self.cache = empty_cache(self.capacity);
    }

    /// Removes everything that has expired.
    pub fn purge(&mut self, now: Millis) {
        self.cache.retain(|_, item| !item.is_expired(now));
    }

    /// Entries, those included that have expired but were not met since.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Bytes in use.
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// The bound on [`Store::weight`], in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Live or expired entries that had to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    fn drop_expired(&mut self, key: &[u8], now: Millis) {
        self.cache.remove_if(key, |item| item.is_expired(now));
    }

    fn evict_after_growth(&mut self, key: &[u8]) {
        if self.cache.weight() <= self.cache.capacity() {
            return;
        }
        let Some(mut item) = self.cache.peek_mut(key) else { return };
        let grown = mem::take(&mut *item);
        drop(item);
        self.cache.insert_with_lifecycle(key.into(), grown, &mut self.evictions);
    }
}

fn empty_cache(capacity: u64) -> ItemCache {
    let ghosts = capacity / BYTES_PER_GHOST;
    // What the ghosts occupy is taken out of what the entries may weigh.
    let weight_capacity = capacity - (ghosts * ENTRY_OVERHEAD as u64).min(capacity);
    let mut options = OptionsBuilder::new();
    options
        .estimated_items_capacity(usize::try_from(ghosts).unwrap_or(usize::MAX))
        .ghost_allocation(1.0)
        .weight_capacity(weight_capacity);
    // `build` fails only for a missing field.
    let options = options.build().expect("both required options are set above");
    Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), CountEvictions)
}

/// Weighs an entry by the memory it takes. A value's capacity counts, not its length: appending leaves room.
#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Item> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, item: &Item) -> u64 {
        (key.len() + item.value.capacity() + ENTRY_OVERHEAD) as u64
    }
}

/// Counts entries that made room; one that is overwritten is not counted.
struct CountEvictions;

impl Lifecycle<Box<[u8]>, Item> for CountEvictions {
    type RequestState = u64;

    fn before_evict(&self, evictions: &mut u64, _key: &Box<[u8]>, _item: &mut Item) {
        *evictions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 1024 * 1024;

    fn weight_of(key: &[u8], value_capacity: usize) -> u64 {
        (key.len() + value_capacity + ENTRY_OVERHEAD) as u64
    }

    #[test]
    fn an_expired_item_is_gone_at_its_time_and_not_before() {
        let mut store = Store::new(CAPACITY);
        store.set(b"k", b"v".to_vec(), 7, Some(1000)).unwrap();
        assert_eq!(store.get(b"k", 999).map(|i| (i.value.clone(), i.flags)), Some((b"v".to_vec(), 7)));
        assert!(store.peek(b"k", 1000).is_none());
        assert_eq!(store.len(), 1, "peek leaves it");
        assert!(store.get(b"k", 1000).is_none());
        assert_eq!((store.len(), store.weight()), (0, 0), "get removes it");
    }

    #[test]
    fn no_operation_finds_an_expired_item() {
        let expired = || {
            let mut store = Store::new(CAPACITY);
            store.set(b"k", b"v".to_vec(), 0, Some(10)).unwrap();
            store
        };
        assert_eq!(expired().remove(b"k", 10), None);
        assert_eq!(expired().edit(b"k", 10, 2, |v| v.push(b'x')), Ok(None));
        assert_eq!(expired().set_expiry(b"k", 10, None), None);
        let mut store = expired();
        store.purge(10);
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn weight_follows_overwriting_appending_and_removing() {
        let mut store = Store::new(CAPACITY);
        store.set(b"k", vec![1; 100], 0, None).unwrap();
        assert_eq!(store.weight(), weight_of(b"k", 100));
        store.set(b"k", vec![1; 10], 0, None).unwrap();
        assert_eq!((store.len(), store.weight()), (1, weight_of(b"k", 10)));
        let grown = store.edit(b"k", 0, 5000, |v| {
            v.resize(5000, 2);
            v.capacity()
        });
        assert_eq!(store.weight(), weight_of(b"k", grown.unwrap().unwrap()));
        store.set(b"other", vec![0; 7], 0, None).unwrap();
        store.remove(b"k", 0);
        assert_eq!(store.weight(), weight_of(b"other", 7));
        store.clear();
        assert_eq!((store.len(), store.weight()), (0, 0));
    }

    #[test]
    fn memory_stays_bounded_however_it_is_filled() {
        let mut store = Store::new(CAPACITY);
        for n in 0..20_000_u32 {
            let key = n.to_be_bytes();
            store.set(&key, vec![0; (n % 700) as usize], 0, None).unwrap();
            assert!(store.peek(&key, 0).is_some(), "what was just stored is there");
            if n % 7 == 0 {
                let old = (n / 2).to_be_bytes();
                let len = store.peek(&old, 0).map_or(0, |i| i.value.len()) + 500;
                store.edit(&old, 0, len, |v| v.resize(len, 1)).unwrap();
            }
            assert!(store.weight() <= CAPACITY, "{} bytes after {n}", store.weight());
        }
        assert!(store.evictions() > 10_000);
        assert!(store.weight() > CAPACITY * 8 / 10, "and the memory is used: {}", store.weight());
    }

    #[test]
    fn growing_many_values_evicts() {
        let mut store = Store::new(CAPACITY);
        for n in 0..1000_u32 {
            store.set(&n.to_be_bytes(), vec![0; 10], 0, None).unwrap();
        }
        for n in 0..1000_u32 {
            let _ = store.edit(&n.to_be_bytes(), 0, 5000, |v| v.resize(5000, 0)).unwrap();
            assert!(store.weight() <= CAPACITY);
        }
        assert!(store.len() < 250);
    }

    #[test]
    fn what_is_read_often_survives_a_scan() {
        let mut store = Store::new(CAPACITY);
        store.set(b"hot", vec![0; 100], 0, None).unwrap();
        for n in 0..50_000_u32 {
            store.set(&n.to_be_bytes(), vec![0; 100], 0, None).unwrap();
            if n % 50 == 0 {
                assert!(store.get(b"hot", 0).is_some(), "evicted at {n}");
            }
        }
    }

    #[test]
    fn an_item_over_its_share_is_refused_and_changes_nothing() {
        let mut store = Store::new(CAPACITY);
        let limit = store.max_item_bytes() - 1;
        store.set(b"k", vec![0; limit], 0, None).unwrap();
        assert_eq!(store.set(b"k", vec![0; limit + 1], 0, None), Err(TooLarge));
        assert_eq!(store.edit(b"k", 0, limit + 1, |v| v.push(0)), Err(TooLarge));
        assert_eq!(store.get(b"k", 0).map(|i| i.value.len()), Some(limit));
    }

    #[test]
    fn every_write_has_its_own_cas_and_an_expiry_is_not_a_write() {
        let mut store = Store::new(CAPACITY);
        store.set(b"a", b"1".to_vec(), 0, None).unwrap();
        let first = store.get(b"a", 0).unwrap().cas;
        store.set_expiry(b"a", 0, Some(50));
        assert_eq!(store.get(b"a", 0).unwrap().cas, first);
        store.edit(b"a", 0, 1, |v| v[0] = b'2').unwrap();
        let second = store.get(b"a", 0).unwrap().cas;
        assert!(second > first);
        assert_eq!(store.get(b"a", 49).unwrap().expires_at, Some(50), "an edit keeps the expiry");
        store.set(b"b", b"1".to_vec(), 0, None).unwrap();
        assert!(store.get(b"b", 0).unwrap().cas > second);
    }

    #[test]
    fn a_store_without_room_refuses_everything() {
        let mut store = Store::new(0);
        assert_eq!(store.set(b"", b"".to_vec(), 0, None), Err(TooLarge));
        assert_eq!(store.weight(), 0);
    }
}
