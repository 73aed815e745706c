//! Memory for the values of an image's patches. A page has tens of megabytes of them, and so much
//! comes fresh from the system each time, cleared: that alone takes longer than to resize the page. So it
//! is asked for in large pages, and given back to the next image instead of the system.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use memmap2::MmapMut;

/// Values of `pixel_values`.
pub type Pixels = Buffer<f32>;

/// Plain values; a slice in every respect.
pub struct Buffer<T> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    Heap(Vec<T>),
    /// At least as many bytes as the values have.
    Mapped(MmapMut),
}

/// The allocator keeps smaller pieces for the next image anyway.
const MAPPED_FROM_BYTES: usize = 4 << 20;
/// What is kept for later images: two of the largest, or a dozen of the usual ones.
pub const MAX_KEPT_BYTES: usize = 192 << 20;

static KEPT: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<MmapMut>> {
    // Plain memory: a thread that panicked has left it in order.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Pod> Buffer<T> {
    /// Of any values: the caller writes every one of them.
    pub(crate) fn to_fill(len: usize) -> Self {
        let bytes = len * size_of::<T>();
        let memory = match bytes {
            MAPPED_FROM_BYTES.. => map(bytes).map(Memory::Mapped),
            _ => None,
        };
        let memory = memory.unwrap_or_else(|| Memory::Heap(vec![T::zeroed(); len]));
        Self { memory, len }
    }
}

fn map(bytes: usize) -> Option<MmapMut> {
    let mut kept = kept();
    // A much larger one is left to a larger image.
    let fits = |map: &MmapMut| (bytes..=bytes + bytes / 4).contains(&map.len());
    if let Some(index) = kept.iter().position(fits) {
        return Some(kept.swap_remove(index));
    }
    drop(kept);
    let map = MmapMut::map_anon(bytes).ok()?;
    // A wish; without large pages it is only slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let heap = Memory::Heap(Vec::new());
        if let Memory::Mapped(map) = std::mem::replace(&mut self.memory, heap) {
            let mut kept = kept();
            kept.push(map);
            // The oldest go: sizes that nobody asks for any more.
            while kept.iter().map(|map| map.len()).sum::<usize>() > MAX_KEPT_BYTES {
                kept.remove(0);
            }
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        let len = values.len();
        Self {
            memory: Memory::Heap(values),
            len,
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Heap(values) => values,
            Memory::Mapped(map) => bytemuck::cast_slice(&map[..self.len * size_of::<T>()]),
        }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Heap(values) => values,
            Memory::Mapped(map) => bytemuck::cast_slice_mut(&mut map[..self.len * size_of::<T>()]),
        }
    }
}

impl<T: Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::to_fill(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_ones_are_slices() {
        for len in [0, 1, 1000, MAPPED_FROM_BYTES / 4, 3_000_001] {
            let mut pixels = Pixels::to_fill(len);
            assert_eq!(pixels.len(), len);
            pixels.fill(0.25);
            if let Some(last) = pixels.last_mut() {
                *last = 1.5;
            }
            let copy = pixels.clone();
            assert_eq!(copy, pixels);
            assert_eq!(copy, Pixels::from(pixels.to_vec()));
            assert_eq!(copy.last(), (len > 0).then_some(&1.5));
        }
    }

    #[test]
    fn memory_is_kept_for_the_next_image_and_not_without_end() {
        let images: Vec<Pixels> = (0..9).map(|n| Pixels::to_fill((8 << 20) + n)).collect();
        drop(images);
        let bytes = kept().iter().map(|map| map.len()).sum::<usize>();
        assert!((1..=MAX_KEPT_BYTES).contains(&bytes), "{bytes}");
        let mut next = Pixels::to_fill(8 << 20);
        assert_eq!(next.len(), 8 << 20);
        next.fill(1.0);
    }
}
