//! Files of all shapes, read back by a reader that shares no code with the writer.

mod reader;

use plinth_snapshot::{Builder, PAGE_BYTES};
use reader::{File, Pair, read};

type Buckets = Vec<(&'static str, Vec<Pair>)>;

/// Passes everything to a builder; values come in two parts.
fn feed(builder: &mut Builder, buckets: &Buckets, mut after_each: impl FnMut(&mut Builder)) {
    for (name, pairs) in buckets {
        builder.begin_bucket(name.as_bytes());
        for (key, value) in pairs {
            builder.begin_pair(key, value.len());
            if builder.is_writing() {
                let (a, b) = value.split_at(value.len() / 3);
                builder.value_part(a);
                builder.value_part(b);
            }
            after_each(builder);
        }
    }
}

/// The file, taken away as it is made.
fn write(buckets: &Buckets) -> Vec<u8> {
    let mut measure = Builder::measure();
    feed(&mut measure, buckets, |builder| assert!(builder.ready().is_empty()));
    let layout = measure.finish();
    let (mut file, mut builder) = (Vec::new(), Builder::write(layout));
    let mut ready_bytes_max = 0;
    feed(&mut builder, buckets, |builder| {
        ready_bytes_max = ready_bytes_max.max(builder.ready().len());
        file.extend_from_slice(builder.ready());
        builder.take(builder.ready().len());
    });
    assert_eq!(builder.finish(), layout);
    file.extend_from_slice(builder.ready());
    assert_eq!(file.len() as u64, layout.file_bytes());
    let longest = buckets.iter().flat_map(|(_, pairs)| pairs).map(|(key, value)| key.len() + value.len()).max();
    assert!(ready_bytes_max <= 32 * PAGE_BYTES + longest.unwrap_or(0), "{ready_bytes_max} bytes were ready");
    file
}

fn written_and_read(buckets: &Buckets) -> File {
    let file = read(&write(buckets));
    let want: Vec<_> = buckets.iter().map(|(name, pairs)| (name.as_bytes().to_vec(), pairs.clone())).collect();
    assert!(file.buckets == want, "what is read is what was written");
    file
}

fn numbered(count: u32, value_bytes: impl Fn(u32) -> usize) -> Vec<Pair> {
    (0..count).map(|i| (format!("key{i:010}").into_bytes(), vec![i as u8; value_bytes(i)])).collect()
}

#[test]
fn a_file_without_any_pairs_has_a_page_for_each_bucket() {
    let file = written_and_read(&vec![("a", Vec::new()), ("b", Vec::new())]);
    assert_eq!(file.levels, 1);
    written_and_read(&Vec::new());
}

#[test]
fn trees_of_every_height_are_read_back() {
    // A leaf takes some 50 of these, a branch some 140 children: each number lies just before or behind a page's end somewhere.
    for count in (0..200).chain((200..9000).step_by(611)) {
        let file = written_and_read(&vec![("b", numbered(count, |_| 50)), ("c", numbered(3, |_| 0))]);
        assert!(file.levels <= 3);
    }
    assert_eq!(written_and_read(&vec![("b", numbered(50_000, |_| 2000))]).levels, 4);
}

#[test]
fn values_of_every_size_around_a_page_are_read_back() {
    for bytes in (3900..4200).chain([8100, 8150, 8200, 65_000, 1 << 20]) {
        let file = written_and_read(&vec![("b", numbered(4, |i| if i % 2 == 0 { bytes } else { 10 }))]);
        assert_eq!(file.has_overflow, bytes + 13 + 32 > PAGE_BYTES);
    }
}

#[test]
fn keys_that_fill_a_branch_with_two_are_read_back() {
    let key = |i: u32| [format!("{i:05}").as_bytes(), &[b'k'; 3000]].concat();
    let pairs = (0..300).map(|i| (key(i), vec![1; 500])).collect();
    let file = written_and_read(&vec![("b", pairs)]);
    assert!(file.levels > 4 && file.has_overflow);
}

#[test]
#[should_panic(expected = "keys are not empty and come in order")]
fn keys_out_of_order_are_a_bug_of_the_caller() {
    written_and_read(&vec![("b", vec![(b"b".to_vec(), Vec::new()), (b"a".to_vec(), Vec::new())])]);
}
