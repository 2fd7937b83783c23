//! What is known about the channels of a connection, by their numbers: channels that are used one after the other lie next
//! to each other, and finding one costs the same however many there are.

use ssh_proto::ChannelId;

use crate::core::ChannelState;

#[derive(Default)]
pub(crate) struct Table {
    places: Vec<Option<(ChannelId, ChannelState)>>,
}

impl Table {
    pub(crate) fn get(&self, id: ChannelId) -> Option<&ChannelState> {
        match self.places.get(id.index())? {
            Some((known, state)) if *known == id => Some(state),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut ChannelState> {
        match self.places.get_mut(id.index())? {
            Some((known, state)) if *known == id => Some(state),
            _ => None,
        }
    }

    /// An earlier channel of that number was removed before: the state machine uses it again when the channel was released.
    pub(crate) fn insert(&mut self, id: ChannelId, state: ChannelState) {
        let index = id.index();
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some((id, state));
    }

    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<ChannelState> {
        self.get(id)?;
        let (_, state) = self.places[id.index()].take()?;
        while self.places.last().is_some_and(Option::is_none) {
            self.places.pop();
        }
        if self.places.capacity() > 8 && self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to(self.places.len() * 2);
        }
        Some(state)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut ChannelState> {
        self.places.iter_mut().flatten().map(|(_, state)| state)
    }
}
