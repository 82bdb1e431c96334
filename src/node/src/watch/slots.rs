//! Things in numbered places, found again only by who knows which one was meant.

/// A place and a number that nothing else ever had, so that a key to something that is gone finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SlotKey {
    pub(super) at: u32,
    pub(super) serial: u64,
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    next_serial: u64,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), next_serial: 0 }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> SlotKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 things fit into memory")
        });
        self.slots[at as usize] = Some((serial, value));
        SlotKey { at, serial }
    }

    pub(super) fn get(&self, key: SlotKey) -> Option<&T> {
        let (serial, value) = self.slots.get(key.at as usize)?.as_ref()?;
        (*serial == key.serial).then_some(value)
    }

    pub(super) fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        let (serial, value) = self.slots.get_mut(key.at as usize)?.as_mut()?;
        (*serial == key.serial).then_some(value)
    }

    pub(super) fn remove(&mut self, key: SlotKey) -> Option<T> {
        self.get(key)?;
        self.free.push(key.at);
        self.slots[key.at as usize].take().map(|(_, value)| value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotKey, &T)> {
        let slots = self.slots.iter().zip(0..);
        slots.filter_map(|(slot, at)| slot.as_ref().map(|(serial, value)| (SlotKey { at, serial: *serial }, value)))
    }
}
