//! A compact, recycled list of attributes.
//!
//! Layout: one slot a value (40 bytes) and one string that holds all text which is not static.
//! In the steady state, with records recycled, adding an attribute allocates nothing. Keys and
//! texts of callsites stay references.

use opentelemetry::{Array, Key, KeyValue, Value};

/// A piece of text: static, or a range of the list's own string.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text {
    Static(&'static str),
    /// Invariant: `start..start + len` lies on character boundaries of the owner's string.
    Range {
        start: u32,
        len: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Bool(bool),
    I64(i64),
    F64(f64),
    Text(Text),
    Array(Box<Array>),
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) key: Text,
    pub(crate) value: Stored,
}

/// How much a list holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) slots: u32,
    pub(crate) text: u32,
    dropped: u32,
    array_bytes: u32,
}

/// The value of an attribute, borrowed from its span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttributeValue<'a> {
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer. Unsigned and 128-bit integers beyond its range are strings.
    I64(i64),
    /// A double.
    F64(f64),
    /// Text.
    Str(&'a str),
    /// A list of values of one type.
    Array(&'a Array),
}

impl AttributeValue<'_> {
    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::I64(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as an OpenTelemetry value of its own.
    pub fn to_value(&self) -> Value {
        match *self {
            Self::Bool(value) => Value::Bool(value),
            Self::I64(value) => Value::I64(value),
            Self::F64(value) => Value::F64(value),
            Self::Str(text) => Value::String(text.to_owned().into()),
            Self::Array(array) => Value::Array(array.clone()),
        }
    }
}

impl std::fmt::Display for AttributeValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Str(text) => f.write_str(text),
            Self::Array(array) => array.fmt(f),
        }
    }
}

/// A list of attributes in the order in which they were set.
#[derive(Clone, Default)]
pub struct Attributes {
    slots: Vec<Slot>,
    text: String,
    dropped: u32,
    /// Bytes of list values that were stored.
    array_bytes: u32,
}

impl std::fmt::Debug for Attributes {
    /// Shows what is in the list, and not the text that lies behind: values that were masked or
    /// replaced may still be there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Attributes {
    /// The number of attributes.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, AttributeValue<'_>)> {
        self.slots.iter().map(|slot| (self.resolve(slot.key), self.value(&slot.value)))
    }

    /// The value of `key`; the last one where it was set several times.
    pub fn get(&self, key: &str) -> Option<AttributeValue<'_>> {
        self.slots
            .iter()
            .rev()
            .find(|slot| self.resolve(slot.key) == key)
            .map(|slot| self.value(&slot.value))
    }

    /// How many attributes a limit has kept out.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Sets `key`, in place of an earlier value, unless the list has `limit` keys already.
    pub fn set(&mut self, key: &Key, value: Value, limit: usize) {
        match self.position(key.as_str()) {
            Some(position) => {
                // The key becomes our own as well: one of a callsite has been judged with the
                // callsite's value, and is not looked at when values are masked.
                let key = self.append(key.as_str());
                let value = self.store(value);
                self.slots[position].key = key;
                self.replace(position, value);
                self.compact();
            }
            None if self.slots.len() >= limit => self.dropped = self.dropped.saturating_add(1),
            None => {
                let key = self.append(key.as_str());
                let value = self.store(value);
                self.slots.push(Slot { key, value });
            }
        }
    }

    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.slots.iter().position(|slot| self.resolve(slot.key) == key)
    }

    pub(crate) fn push(&mut self, key: Text, value: Stored) {
        self.slots.push(Slot { key, value });
    }

    pub(crate) fn replace(&mut self, position: usize, value: Stored) {
        let old = std::mem::replace(&mut self.slots[position].value, value);
        if let Stored::Array(old) = old {
            let bytes = u32::try_from(array_bytes(&old)).unwrap_or(u32::MAX);
            self.array_bytes = self.array_bytes.saturating_sub(bytes);
        }
    }

    /// Gives back the text of values that were replaced, once that is most of it: a long-lived
    /// span may set the same key without end. Only for lists whose text no one else refers to.
    pub(crate) fn compact(&mut self) {
        const TOLERATED: usize = 8 * 1024;
        if self.text.len() <= TOLERATED {
            return;
        }
        let size = |text: Text| if let Text::Range { len, .. } = text { len as usize } else { 0 };
        let used: usize = self
            .slots
            .iter()
            .map(|slot| {
                let value = if let Stored::Text(text) = slot.value { size(text) } else { 0 };
                size(slot.key) + value
            })
            .sum();
        if used > self.text.len() / 2 {
            return;
        }
        let old = std::mem::replace(&mut self.text, String::with_capacity(2 * used));
        let mut move_over = |text: &mut Text| {
            if let Text::Range { .. } = *text {
                let start = self.text.len() as u32;
                self.text.push_str(resolve(&old, *text));
                *text = Text::Range { start, len: self.text.len() as u32 - start };
            }
        };
        for slot in &mut self.slots {
            move_over(&mut slot.key);
            if let Stored::Text(text) = &mut slot.value {
                move_over(text);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &str) {
        while let Some(position) = self.position(key) {
            self.slots.remove(position);
        }
    }

    pub(crate) fn add_dropped(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn append(&mut self, text: &str) -> Text {
        let start = self.text.len();
        // Four GiB of text cannot be addressed; the caps on values keep far below.
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(text.len())) else {
            return Text::Static("");
        };
        self.text.push_str(text);
        Text::Range { start, len }
    }

    /// Appends what `write` writes. It may only add to the end of the string.
    pub(crate) fn append_with(&mut self, write: impl FnOnce(&mut String)) -> Text {
        let start = self.text.len();
        write(&mut self.text);
        match (u32::try_from(start), u32::try_from(self.text.len().saturating_sub(start))) {
            (Ok(start), Ok(len)) => Text::Range { start, len },
            _ => Text::Static(""),
        }
    }

    pub(crate) fn store(&mut self, value: Value) -> Stored {
        match value {
            Value::Bool(value) => Stored::Bool(value),
            Value::I64(value) => Stored::I64(value),
            Value::F64(value) => Stored::F64(value),
            Value::String(text) => Stored::Text(self.append(text.as_str())),
            Value::Array(array) => self.store_array(array),
            other => Stored::Text(self.append(&other.as_str())),
        }
    }

    pub(crate) fn store_array(&mut self, array: Array) -> Stored {
        let bytes = u32::try_from(array_bytes(&array)).unwrap_or(u32::MAX);
        self.array_bytes = self.array_bytes.saturating_add(bytes);
        Stored::Array(Box::new(array))
    }

    /// Copies a slot of another list to the end of this one.
    pub(crate) fn copy_from(&mut self, other: &Self, slot: &Slot) {
        let key = self.copy_text(other, slot.key);
        let value = self.copy_value(other, &slot.value);
        self.slots.push(Slot { key, value });
    }

    pub(crate) fn copy_value(&mut self, other: &Self, value: &Stored) -> Stored {
        match value {
            Stored::Text(text) => Stored::Text(self.copy_text(other, *text)),
            Stored::Array(array) => self.store_array(array.as_ref().clone()),
            value => value.clone(),
        }
    }

    pub(crate) fn copy_text(&mut self, other: &Self, text: Text) -> Text {
        match text {
            Text::Static(_) => text,
            range => self.append(other.resolve(range)),
        }
    }

    /// Removes the attributes whose keys are not wanted.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let Self { slots, text, .. } = self;
        slots.retain(|slot| keep(resolve(text, slot.key)));
    }

    /// Removes earlier values of keys that were set again; the last one stays, in its place.
    pub(crate) fn keep_last_of_each_key(&mut self) {
        let mut index = 0;
        while index < self.slots.len() {
            let key = self.resolve(self.slots[index].key);
            let again = self.slots[index + 1..].iter().any(|slot| self.resolve(slot.key) == key);
            if again {
                self.slots.remove(index);
            } else {
                index += 1;
            }
        }
    }

    pub(crate) fn resolve(&self, text: Text) -> &str {
        resolve(&self.text, text)
    }

    pub(crate) fn value<'a>(&'a self, value: &'a Stored) -> AttributeValue<'a> {
        match value {
            Stored::Bool(value) => AttributeValue::Bool(*value),
            Stored::I64(value) => AttributeValue::I64(*value),
            Stored::F64(value) => AttributeValue::F64(*value),
            Stored::Text(text) => AttributeValue::Str(self.resolve(*text)),
            Stored::Array(array) => AttributeValue::Array(array),
        }
    }

    /// Approximate size on the heap, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.text.len() + self.array_bytes as usize
    }

    /// Moves the content to the end of `slots` and `text`.
    pub(crate) fn move_to(&mut self, slots: &mut Vec<Slot>, text: &mut String) -> Extent {
        let extent = Extent {
            // Text above four GiB is never stored, and slots are more than a byte each.
            slots: self.slots.len() as u32,
            text: self.text.len() as u32,
            dropped: self.dropped,
            array_bytes: self.array_bytes,
        };
        slots.append(&mut self.slots);
        text.push_str(&self.text);
        self.text.clear();
        self.dropped = 0;
        self.array_bytes = 0;
        extent
    }

    /// Takes over content that was moved away; the list is empty before.
    pub(crate) fn move_from(
        &mut self,
        extent: Extent,
        slots: impl Iterator<Item = Slot>,
        text: &str,
    ) {
        self.slots.extend(slots.take(extent.slots as usize));
        self.text.push_str(text);
        self.dropped = extent.dropped;
        self.array_bytes = extent.array_bytes;
    }

    /// Empties the list and keeps its memory, up to a limit that one huge span cannot pin.
    pub(crate) fn clear(&mut self) {
        const KEPT_TEXT: usize = 8 * 1024;
        const KEPT_SLOTS: usize = 256;
        self.slots.clear();
        self.slots.shrink_to(KEPT_SLOTS);
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        self.dropped = 0;
        self.array_bytes = 0;
    }
}

fn resolve(owner: &str, text: Text) -> &str {
    match text {
        Text::Static(text) => text,
        Text::Range { start, len } => {
            let start = start as usize;
            owner.get(start..start + len as usize).unwrap_or_default()
        }
    }
}

fn array_bytes(array: &Array) -> usize {
    match array {
        Array::Bool(values) => values.len(),
        Array::I64(values) => values.len() * 8,
        Array::F64(values) => values.len() * 8,
        Array::String(values) => values.iter().map(|value| value.as_str().len() + 24).sum(),
        _ => 0,
    }
}

impl From<&Attributes> for Vec<KeyValue> {
    fn from(attributes: &Attributes) -> Self {
        attributes
            .slots
            .iter()
            .map(|slot| {
                let key = match slot.key {
                    Text::Static(key) => Key::from_static_str(key),
                    range => Key::from(attributes.resolve(range).to_owned()),
                };
                KeyValue::new(key, attributes.value(&slot.value).to_value())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_at_forty_bytes() {
        assert_eq!(size_of::<Slot>(), 40);
    }

    #[test]
    fn setting_a_key_again_replaces_its_value_in_place() {
        let mut list = Attributes::default();
        list.set(&"a".into(), 1.into(), 8);
        list.set(&"b".into(), "x".into(), 8);
        list.set(&"a".into(), "later".into(), 8);
        let all: Vec<_> = list.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(all, ["a=later", "b=x"]);
    }

    #[test]
    fn keys_over_the_limit_are_counted_not_kept() {
        let mut list = Attributes::default();
        for key in ["a", "b", "c"] {
            list.set(&key.into(), true.into(), 2);
        }
        assert_eq!((list.len(), list.dropped()), (2, 1));
    }

    #[test]
    fn the_last_value_of_a_key_wins() {
        let mut list = Attributes::default();
        list.push(Text::Static("a"), Stored::I64(1));
        list.push(Text::Static("b"), Stored::I64(2));
        list.push(Text::Static("a"), Stored::I64(3));
        list.keep_last_of_each_key();
        let all: Vec<_> = list.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(all, ["b=2", "a=3"]);
    }

    #[test]
    fn a_key_that_is_set_without_end_takes_no_more_memory() {
        let mut list = Attributes::default();
        list.push(Text::Static("state"), Stored::I64(0));
        list.set(&"stays".into(), "here".into(), 8);
        for number in 0..100_000 {
            list.set(&"state".into(), format!("number {number}").into(), 8);
            list.set(&"list".into(), Value::Array(vec![number].into()), 8);
        }
        assert!(list.heap_bytes() < 64 * 1024, "{}", list.heap_bytes());
        assert_eq!(list.get("state"), Some(AttributeValue::Str("number 99999")));
        assert_eq!(list.get("stays"), Some(AttributeValue::Str("here")));
    }
}
