//! Tables of `kmem`: where memory went.

use crate::case::{CacheFacts, MemoryFacts, ZoneFacts};
use crate::text::scan::{decimal, hex};

/// Bytes of a page. All kernels that crash shows such tables of have these, but for a few.
const PAGE: u64 = 4096;
const MOST_CACHES: usize = 2048;
const MOST_ZONES: usize = 512;

/// Tables that are being read.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) memory: MemoryFacts,
    zone: Next,
    node: Option<u32>,
}

/// What the next line is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Nothing,
    Node,
    Zone,
    Areas,
}

impl Tables {
    /// Takes a line. Whether it was one of a table.
    pub(super) fn line(&mut self, text: &str) -> bool {
        self.usage(text) || self.zones(text) || self.cache(text)
    }

    pub(super) fn end(&mut self) {
        self.zone = Next::Nothing;
    }

    /// `kmem -i`: `FREE 854554 3.3 GB 20% of TOTAL MEM`.
    fn usage(&mut self, text: &str) -> bool {
        let Some(at) = text.find(|letter: char| letter.is_ascii_digit()) else { return false };
        let (name, rest) = text.split_at_checked(at).unwrap_or_default();
        let Some((pages, rest)) = decimal(rest) else { return false };
        if !["KB", "MB", "GB", "TB"].iter().any(|unit| rest.contains(unit)) && pages != 0 {
            return false;
        }
        let memory = &mut self.memory;
        let slot = match name.trim() {
            "TOTAL MEM" => &mut memory.total,
            "FREE" => &mut memory.free,
            "CACHED" => &mut memory.file,
            "SLAB" => &mut memory.slab,
            "TOTAL HIGH" => &mut memory.high_total,
            "FREE HIGH" => &mut memory.high_free,
            "TOTAL LOW" => &mut memory.low_total,
            "FREE LOW" => &mut memory.low_free,
            "TOTAL SWAP" => {
                memory.swap = Some((pages.saturating_mul(PAGE), 0));
                return true;
            }
            "SWAP FREE" => {
                memory.swap = memory.swap.map(|(total, _)| (total, pages.saturating_mul(PAGE)));
                return true;
            }
            "USED" | "SHARED" | "BUFFERS" | "TOTAL HUGE" | "HUGE FREE" | "SWAP USED" | "COMMIT LIMIT"
            | "COMMITTED" => return true,
            _ => return false,
        };
        *slot = slot.or(Some(pages.saturating_mul(PAGE)));
        true
    }

    /// `kmem -f`: zones, and how many free blocks of each order they have.
    fn zones(&mut self, text: &str) -> bool {
        if text == "NODE" {
            self.zone = Next::Node;
            return true;
        }
        if text.starts_with("ZONE NAME ") && text.contains("FREE") {
            self.zone = Next::Zone;
            return true;
        }
        if text.starts_with("AREA SIZE ") {
            self.zone = Next::Areas;
            return true;
        }
        if self.zone == Next::Nothing {
            return false;
        }
        let columns: Vec<_> = text.split_whitespace().collect();
        match (self.zone, &*columns) {
            (Next::Node, [node]) => self.node = node.parse().ok(),
            (Next::Zone, [number, name, size, free, ..]) => {
                let numbers = (number.parse::<u32>(), size.parse::<u64>(), free.parse::<u64>());
                let (Ok(_), Ok(size), Ok(free)) = numbers else { return false };
                if self.memory.zones.len() < MOST_ZONES {
                    let pages = |count: u64| Some(count.saturating_mul(PAGE));
                    self.memory.zones.push(ZoneFacts {
                        name: (*name).to_owned(),
                        node: self.node,
                        size: pages(size),
                        free: pages(free),
                        ..ZoneFacts::default()
                    });
                }
                self.zone = Next::Nothing;
            }
            (Next::Areas, [order, size, _, blocks, _]) if size.ends_with('k') => {
                let (Ok(order), Ok(blocks)) = (order.parse::<usize>(), blocks.parse::<u64>()) else {
                    return false;
                };
                let Some(zone) =
                    self.memory.zones.last_mut().filter(|zone| zone.blocks.len() == order && order < 32)
                else {
                    return false;
                };
                zone.blocks.push(blocks);
            }
            _ => return false,
        }
        true
    }

    /// `kmem -s`: `d8a0b174 tcp_bind_bucket 32 627 2800 25 4k`. Its newer form has the name last.
    fn cache(&mut self, text: &str) -> bool {
        let address = text.split_whitespace().next().and_then(hex);
        if address.is_none_or(|(_, digits, rest)| digits < 7 || !rest.is_empty()) {
            return false;
        }
        let columns: Vec<_> = text.split_whitespace().collect();
        let [_, a, b, c, d, e, f] = &*columns else { return false };
        let row = if e.bytes().all(|byte| byte.is_ascii_digit()) && f.ends_with('k') {
            (*a, [*b, *c, *d, *e], *f)
        } else if e.ends_with('k') {
            (*f, [*a, *b, *c, *d], *e)
        } else {
            return false;
        };
        let (name, numbers, slab) = row;
        let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        let ([object_size, allocated, total, slabs], Some(slab)) =
            (&*numbers, slab.strip_suffix('k').and_then(|slab| slab.parse::<u64>().ok()))
        else {
            return false;
        };
        let bytes = slabs.saturating_mul(slab).saturating_mul(1024);
        let caches = &mut self.memory.caches;
        if caches.len() < MOST_CACHES && caches.iter().all(|cache| cache.name != name) {
            caches.push(CacheFacts {
                name: name.to_owned(),
                object_size: Some(*object_size),
                allocated: Some(*allocated),
                total: Some(*total),
                bytes,
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_zones_and_caches_are_read() {
        let mut tables = Tables::default();
        for text in [
            "TOTAL MEM 4102986 15.7 GB --",
            "SLAB 93293 364.4 MB 2% of TOTAL MEM",
            "FREE LOW 13148 51.4 MB 9% of TOTAL LOW",
            "ZONE NAME SIZE FREE MEM_MAP START_PADDR START_MAPNR",
            "1 Normal 225280 10372 c103c02c 1000000 4096",
            "AREA SIZE FREE_AREA_STRUCT BLOCKS PAGES",
            "0 4k c03ae0d8 10372 10372",
            "1 8k c03ae0e4 0 0",
            "d8a0b174 tcp_bind_bucket 32 627 2800 25 4k",
            "ffff888100042000 64 10 20 5 4k kmalloc-64",
        ] {
            assert!(tables.line(text), "{text}");
        }
        let memory = &tables.memory;
        assert_eq!((memory.total, memory.low_free), (Some(4_102_986 * 4096), Some(13_148 * 4096)));
        assert_eq!(memory.zones[0].blocks, [10372, 0]);
        assert_eq!(
            memory.caches.iter().map(|cache| (&*cache.name, cache.bytes)).collect::<Vec<_>>(),
            [("tcp_bind_bucket", 25 * 4096), ("kmalloc-64", 5 * 4096)]
        );
    }
}
