//! Holds docs/format/tree.md to the code: a file that the code wrote is read here by the page's tables alone.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Bed, options};
use plinth_base::crc32c;
use plinth_sim_env::{Sim, SimOptions};
use plinth_tree::{BODY_BYTES_MAX, KEY_BYTES_MAX, PAGE_BYTES};

const PAGE: &str = include_str!("../../../docs/format/tree.md");

/// The tables of a section: offset by the first words of the field.
fn table(section: &str) -> BTreeMap<String, usize> {
    let start = PAGE.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("a section {section}"));
    let rest = &PAGE[start + 4..];
    let text = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let offset = cells.first()?.parse().ok()?;
        let name = cells.get(2)?.split([',', ';', ':']).next()?.to_owned();
        Some((name, offset))
    });
    rows.collect()
}

fn int(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

struct Reading {
    file: Vec<u8>,
    header: BTreeMap<String, usize>,
    leaf: BTreeMap<String, usize>,
    file_id: u64,
    entries: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

impl Reading {
    fn page(&self, page: u64, checksum: u64, kind: u64, bytes: usize) -> &[u8] {
        let page_bytes = &self.file[page as usize * PAGE_BYTES..][..bytes];
        assert_eq!(u64::from(crc32c(0, page_bytes)), checksum);
        let field = |name: &str, len| int(page_bytes, self.header[name], len);
        assert_eq!(field("magic 0x7470", 2), 0x7470);
        assert_eq!((field("kind", 1), field("page", 8), field("file id", 8)), (kind, page, self.file_id));
        page_bytes
    }

    fn run(&self, bytes: &[u8], at: &mut usize, len: usize) -> Vec<u8> {
        let (page, checksum) = (int(bytes, *at, 8), int(bytes, *at + 8, 4));
        *at += 12;
        self.page(page, checksum, 3, 32 + len)[32..].to_vec()
    }

    fn key(&self, bytes: &[u8], at: &mut usize) -> Vec<u8> {
        let len = varint(bytes, at);
        if len <= 512 {
            *at += len;
            return bytes[*at - len..*at].to_vec();
        }
        *at += 128;
        self.run(bytes, at, len)
    }

    fn leaf(&mut self, page: u64, checksum: u64) {
        let bytes = self.page(page, checksum, 1, PAGE_BYTES).to_vec();
        let count = int(&bytes, self.header["cells of a leaf"], 2) as usize;
        let mut cells_bytes = int(&bytes, self.leaf["unused bytes between cells"], 2) as usize;
        for slot in 0..count {
            let start = int(&bytes, self.leaf["slots"] + 2 * slot, 2) as usize;
            let mut at = start;
            let key = self.key(&bytes, &mut at);
            let head_len = varint(&bytes, &mut at);
            at += head_len;
            let head = bytes[at - head_len..at].to_vec();
            let tag = varint(&bytes, &mut at);
            let body = if tag % 2 == 1 {
                self.run(&bytes, &mut at, tag / 2)
            } else {
                at += tag / 2;
                bytes[at - tag / 2..at].to_vec()
            };
            assert!(at - start <= 2028, "two of the largest cells fill a leaf");
            cells_bytes += at - start;
            self.entries.push((key, head, body));
        }
        let start = int(&bytes, self.leaf["where the cells start"], 2) as usize;
        assert_eq!(start + cells_bytes, PAGE_BYTES);
    }

    /// Returns the entries below.
    fn subtree(&mut self, page: u64, checksum: u64, level: u64) -> u64 {
        let before = self.entries.len();
        if level == 0 {
            self.leaf(page, checksum);
        } else {
            let bytes = self.page(page, checksum, 2, PAGE_BYTES).to_vec();
            assert_eq!(int(&bytes, self.header["level"], 1), level);
            let children = int(&bytes, self.header["cells of a leaf"], 2) as usize;
            let ends_at = 32 + children * 28;
            let separators_at = ends_at + (children - 1) * 2;
            let mut at = separators_at;
            for child in 0..children {
                let field = 32 + child * 28;
                let (page, checksum) = (int(&bytes, field, 8), int(&bytes, field + 8, 4));
                let separator = if child > 0 { self.key(&bytes, &mut at) } else { Vec::new() };
                if let Some(slot) = child.checked_sub(1) {
                    assert_eq!(int(&bytes, ends_at + slot * 2, 2) as usize, at - separators_at);
                }
                let first = self.entries.len();
                assert_eq!(self.subtree(page, checksum, level - 1), int(&bytes, field + 12, 8));
                assert!(separator <= self.entries[first].0 && (child == 0 || self.entries[first - 1].0 < separator));
            }
            assert!(bytes[at..].iter().all(|byte| *byte == 0));
        }
        (self.entries.len() - before) as u64
    }
}

/// A file whose first tree has every kind of cell.
fn written(sim: &Sim) -> Bed {
    let env = sim.env();
    sim.block_on(async {
        let mut bed = Bed::create(env).await;
        for i in 0..400u32 {
            let long = if i % 9 == 0 { "k".repeat(500 + i as usize) } else { String::new() };
            let body = Bytes::from(vec![i as u8; if i % 7 == 0 { 3000 + i as usize } else { i as usize }]);
            bed.put(0, format!("{:03}/{long}/{i}", i * 37 % 400).as_bytes(), &i.to_be_bytes(), &body).await;
        }
        bed.checkpoint().await;
        bed
    })
}

#[test]
fn a_file_is_what_the_format_page_says() {
    let sim = Sim::new(1, SimOptions::default());
    let bed = written(&sim);
    let file = sim.read_file(&options().path).expect("the file is there");
    let meta_at = table("Meta");
    let slot = (bed.store.checkpoints().generation % 2) as usize;
    let meta = file[slot * PAGE_BYTES..][..PAGE_BYTES].to_vec();
    let field = |name: &str, len| int(&meta, meta_at[name], len);
    assert_eq!(&meta[..8], b"plnttree");
    assert_eq!((field("format version", 4), field("page size", 4)), (2, PAGE_BYTES as u64));
    assert_eq!(field("generation", 8), bed.store.checkpoints().generation);
    assert_eq!(field("trees", 1), 2);
    assert_eq!(field("bytes of the state", 4), 8);
    assert_eq!(&meta[meta_at["state"]..][..8], bed.store.state());
    let sum_at = meta_at["checksum of bytes 0 to 4091"];
    assert_eq!(int(&meta, sum_at, 4), u64::from(crc32c(0, &meta[..sum_at])));

    let root = &meta[meta_at["roots"]..][..48];
    assert_eq!(&root[..16], b"first\0\0\0\0\0\0\0\0\0\0\0");
    let (page, entries, weight) = (int(root, 16, 8), int(root, 24, 8), int(root, 32, 8));
    let (checksum, levels) = (int(root, 40, 4), int(root, 44, 1));
    let file_id = field("file id", 8);
    let bitmap = (field("first page of the bitmap run", 8), field("checksum of the bitmap run", 4));
    let pages = field("pages of the file that the bitmaps speak of", 8);
    let mut reading = Reading { file, header: table("Page header"), leaf: table("Leaf"), file_id, entries: Vec::new() };
    assert!(levels > 1, "the tree has branches");
    assert_eq!(reading.subtree(page, checksum, levels - 1), entries);
    let weights = reading.entries.iter().map(|(key, head, body)| common::weigh(key.len(), head, body.len()));
    assert_eq!(weights.sum::<u64>(), weight);
    let model = bed.model[0].iter().map(|(key, (head, body))| (key.clone(), head.clone(), body.to_vec()));
    assert_eq!(reading.entries, model.collect::<Vec<_>>());

    let words = pages.div_ceil(64) as usize * 8;
    let bits = reading.page(bitmap.0, bitmap.1, 4, 32 + 2 * words)[32..].to_vec();
    assert_eq!(int(&bits, 0, 1) & 3, 3, "the metas are used");
    assert!(bits[words..].iter().all(|byte| *byte == 0), "there are no holes");
}

#[test]
fn limits_on_the_format_page_are_those_of_the_code() {
    for (name, limit) in [("key", KEY_BYTES_MAX), ("body", BODY_BYTES_MAX)] {
        assert!(PAGE.contains(&format!("| {name} | up to {limit} |")), "{name} up to {limit}");
    }
}
