//! The sizes of a CPU's caches.

use std::fs;
use std::path::Path;

/// Sizes of the caches that one core sees, in bytes; 0 where unknown or absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheSizes {
    /// First-level data cache.
    pub l1: usize,
    /// Second level.
    pub l2: usize,
    /// Third level, shared by cores.
    pub l3: usize,
}

impl CacheSizes {
    /// The caches of this machine's first core, as the operating system tells them.
    pub fn of_this_cpu() -> CacheSizes {
        Self::read(Path::new("/sys/devices/system/cpu/cpu0/cache"))
    }

    fn read(folder: &Path) -> CacheSizes {
        let mut sizes = CacheSizes::default();
        for index in 0..8 {
            let entry = folder.join(format!("index{index}"));
            let text = |file: &str| fs::read_to_string(entry.join(file)).unwrap_or_default();
            if text("type").trim() == "Instruction" {
                continue;
            }
            let slot = match text("level").trim() {
                "1" => &mut sizes.l1,
                "2" => &mut sizes.l2,
                "3" => &mut sizes.l3,
                _ => continue,
            };
            *slot = bytes(text("size").trim());
        }
        sizes
    }
}

/// Reads `32K` or `16M`; 0 where it is neither.
fn bytes(text: &str) -> usize {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return 0,
    };
    digits.parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("32K", 32768), ("16M", 16 << 20), ("512", 512), ("", 0), ("big", 0), ("3X", 0)]
        {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
