//! The slots that channels live in. Their numbers are those on the wire.

use super::ChannelId;
use super::state::State;

/// A slab: channels by number, each number with a generation that makes its ids unique.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The first generation of each number.
    first: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: Option<Box<State>>,
}

impl Slots {
    /// Generations are counted from here on: drawn, so that the ids of another connection do not fit.
    pub(super) const fn number_from(&mut self, first: u32) {
        self.first = first >> 1;
    }

    /// How many channels there are.
    pub(super) const fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// The id of the channel that is inserted next.
    pub(super) fn next_id(&self) -> ChannelId {
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let slot = self.free.last().copied().unwrap_or(next);
        let generation = self.slot(slot).map_or(self.first, |slot| slot.generation);
        ChannelId { slot, generation }
    }

    /// Inserts a channel under [`next_id`](Self::next_id).
    pub(super) fn insert(&mut self, state: State) {
        let state = Some(Box::new(state));
        match self.free.pop() {
            Some(slot) => {
                if let Some(slot) = self.slot_mut(slot) {
                    slot.state = state;
                }
            }
            None => self.slots.push(Slot {
                generation: self.first,
                state,
            }),
        }
    }

    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Box<State>> {
        let slot = self
            .slot_mut(id.slot)
            .filter(|slot| slot.generation == id.generation)?;
        let state = slot.state.take()?;
        // A number whose generations are used up is not used again.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot);
        }
        Some(state)
    }

    pub(super) fn get(&self, id: ChannelId) -> Option<&State> {
        self.slot(id.slot)
            .filter(|slot| slot.generation == id.generation)?
            .state
            .as_deref()
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut State> {
        self.slot_mut(id.slot)
            .filter(|slot| slot.generation == id.generation)?
            .state
            .as_deref_mut()
    }

    /// The channel of a number.
    pub(super) fn at(&mut self, slot: u32) -> Option<&mut State> {
        self.slot_mut(slot)?.state.as_deref_mut()
    }

    pub(super) fn ids(&self) -> Vec<ChannelId> {
        self.iter().map(|state| state.id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &State> {
        self.slots.iter().filter_map(|slot| slot.state.as_deref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut State> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.state.as_deref_mut())
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(slot).ok()?)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }
}

#[cfg(test)]
impl Slots {
    pub(super) fn footprint(&self) -> usize {
        self.slots.capacity() + self.free.capacity()
    }
}
