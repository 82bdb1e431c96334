//! A version of a key as the trees hold it: a short head with everything but the value, and the value as the body.
//!
//! The head carries the fields of etcd's `KeyValue` message already encoded, so that a range reply is put together by copying: key, head fields,
//! value, lease. Layout of the head:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `sub` of the revision, little-endian |
//! | 1 | n, length of the encoded lease field |
//! | n | the lease field (tag 6), nothing if there is no lease |
//! | rest | fields 2, 3, 4 (create, mod, version), then tag and length of field 5 (value), nothing of it if the value is empty |

use plinth_base::{
    Revision,
    codec::{Malformed, Reader, varint_len},
};
use plinth_tree::{Missing, ValueRef};

const TAG_CREATE: u8 = 0x10;
const TAG_MOD: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// Bytes before the lease field.
const FIXED_BYTES: usize = 5;

/// No head is longer: fixed part, lease, three numbers, tag and length of the value.
pub(crate) const HEAD_BYTES_MAX: usize = FIXED_BYTES + 11 + 3 * 11 + 6;

/// Everything but key and value of a version.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RecordMeta {
    /// Main revision of the put that created the key.
    pub create: i64,
    /// The put that wrote this version.
    pub modified: Revision,
    /// 1 at creation, one more with each put.
    pub version: i64,
    /// The attached lease, 0 for none.
    pub lease: i64,
}

/// A head being built, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Head {
    /// Encodes `meta` of a value that is `value_bytes` long.
    pub(crate) fn new(meta: &RecordMeta, value_bytes: usize) -> Self {
        let mut head = Self { bytes: [0; HEAD_BYTES_MAX], len: 0 };
        head.push(&meta.modified.sub.to_le_bytes());
        head.push(&[0]);
        if meta.lease != 0 {
            head.field(TAG_LEASE, meta.lease as u64);
            head.bytes[FIXED_BYTES - 1] = (head.len - FIXED_BYTES) as u8;
        }
        head.field(TAG_CREATE, meta.create as u64);
        head.field(TAG_MOD, meta.modified.main as u64);
        head.field(TAG_VERSION, meta.version as u64);
        if value_bytes > 0 {
            head.field(TAG_VALUE, value_bytes as u64);
        }
        head
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn field(&mut self, tag: u8, mut value: u64) {
        self.push(&[tag]);
        while value >= 0x80 {
            self.push(&[(value as u8) | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }
}

/// A version of a key, read from a page.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    meta: RecordMeta,
    lease_field: &'a [u8],
    fields: &'a [u8],
    value: ValueRef<'a>,
}

impl<'a> Record<'a> {
    /// Reads `value`, whose head starts after `skip` bytes of something else.
    pub(crate) fn parse(value: ValueRef<'a>, skip: usize) -> Result<Self, Malformed> {
        let head = value.head().get(skip..).ok_or(Malformed("record head is too short"))?;
        let mut reader = Reader::new(head);
        let sub = reader.u32()?;
        let lease_bytes = reader.u8()?;
        let lease_field = reader.take(usize::from(lease_bytes))?;
        let fields = reader.rest();
        let number = |reader: &mut Reader<'a>, tag: u8| -> Result<i64, Malformed> {
            if reader.u8()? != tag {
                return Err(Malformed("record fields are out of order"));
            }
            Ok(reader.varint()? as i64)
        };
        let lease = if lease_field.is_empty() { 0 } else { number(&mut Reader::new(lease_field), TAG_LEASE)? };
        let create = number(&mut reader, TAG_CREATE)?;
        let main = number(&mut reader, TAG_MOD)?;
        let version = number(&mut reader, TAG_VERSION)?;
        let meta = RecordMeta { create, modified: Revision { main, sub }, version, lease };
        Ok(Self { meta, lease_field, fields, value })
    }

    /// Revisions, version and lease.
    #[must_use]
    pub fn meta(&self) -> RecordMeta {
        self.meta
    }

    /// Length of the value in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.value.body_len()
    }

    /// The value.
    pub fn value(&self) -> Result<&'a [u8], Missing> {
        self.value.body()
    }

    /// Fields 2 to 4 of etcd's `KeyValue`, encoded, and tag and length of field 5 unless the value is empty. The value's bytes belong right behind.
    #[must_use]
    pub fn fields(&self) -> &'a [u8] {
        self.fields
    }

    /// The same fields without tag and length of the value, for replies that leave the value out.
    #[must_use]
    pub fn fields_without_value(&self) -> &'a [u8] {
        let cut = if self.value_bytes() == 0 { 0 } else { 1 + varint_len(self.value_bytes() as u64) };
        &self.fields[..self.fields.len() - cut]
    }

    /// Field 6 of `KeyValue`, encoded; empty without a lease.
    #[must_use]
    pub fn lease_field(&self) -> &'a [u8] {
        self.lease_field
    }
}

/// The lease that a record's head names, 0 for none.
pub(crate) fn lease_of(head: &[u8]) -> Result<i64, Malformed> {
    let field = head.get(FIXED_BYTES - 1..).ok_or(Malformed("record head is too short"))?;
    let mut reader = Reader::new(field);
    let bytes = reader.u8()?;
    if bytes == 0 {
        return Ok(0);
    }
    let mut reader = Reader::new(reader.take(usize::from(bytes))?);
    if reader.u8()? != TAG_LEASE {
        return Err(Malformed("record fields are out of order"));
    }
    Ok(reader.varint()? as i64)
}

/// Bytes of a `KeyValue` message of a key of `key_bytes`, given the length of its record's head and value.
#[must_use]
pub fn message_bytes(key_bytes: usize, head_bytes: usize, value_bytes: usize) -> usize {
    key_field_bytes(key_bytes) + head_bytes - FIXED_BYTES + value_bytes
}

/// Bytes of field 1 of `KeyValue`: tag, length and key.
#[must_use]
pub fn key_field_bytes(key_bytes: usize) -> usize {
    if key_bytes == 0 { 0 } else { 1 + varint_len(key_bytes as u64) + key_bytes }
}

/// What this module wrote and a checksum has covered since.
pub(crate) fn sound<T>(read: Result<T, Malformed>) -> T {
    read.unwrap_or_else(|Malformed(what)| {
        panic!("a verified page holds a record that this version can't have written: {what}")
    })
}
