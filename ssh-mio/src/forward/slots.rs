//! The tokens of forwards, and what each stands for.
//!
//! In: a range of tokens. Out: listeners and connections by token, none of them ever looked for.

use std::ops::Range;
use std::time::Instant;

use mio::Token;

use super::link::Link;
use super::socket::Acceptor;

/// What a token stands for.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whose it is.
    pub(super) session: Token,
    /// It is in its session's list of those with something to do.
    pub(super) due: bool,
    pub(super) item: Item,
}

#[derive(Debug)]
pub(super) enum Item {
    Listener(Listener),
    Link(Box<Link>),
    /// It was taken out for a moment.
    Away,
}

/// A listener of a forward.
#[derive(Debug)]
pub(super) struct Listener {
    /// The key of its forward.
    pub(super) forward: u64,
    pub(super) acceptor: Acceptor,
    /// There may be connections, as far as is known.
    pub(super) readable: bool,
    /// The system had no more descriptors: not before this.
    pub(super) rests_until: Option<Instant>,
}

/// Slots by token.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    range: Range<usize>,
    len: usize,
}

impl Slots {
    pub(super) const fn new(tokens: &Range<Token>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            range: tokens.start.0..tokens.end.0,
            len: 0,
        }
    }

    /// The token that the next slot will have. `None`: all are in use.
    pub(super) fn next(&self) -> Option<Token> {
        let index = self.free.last().copied().unwrap_or(self.slots.len());
        let token = self.range.start.checked_add(index)?;
        self.range.contains(&token).then_some(Token(token))
    }

    /// Takes the next token, which there is.
    pub(super) fn insert(&mut self, session: Token, item: Item) {
        let slot = Some(Slot {
            session,
            due: false,
            item,
        });
        self.len += 1;
        match self.free.pop() {
            Some(index) => self.slots[index] = slot,
            None => self.slots.push(slot),
        }
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let index = token.0.checked_sub(self.range.start)?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// Takes a slot's content out for a moment.
    pub(super) fn take(&mut self, token: Token) -> Option<Item> {
        let slot = self.get_mut(token)?;
        Some(std::mem::replace(&mut slot.item, Item::Away))
    }

    pub(super) fn put(&mut self, token: Token, item: Item) {
        if let Some(slot) = self.get_mut(token) {
            slot.item = item;
        }
    }

    pub(super) fn link(&mut self, token: Token) -> Option<&mut Link> {
        match &mut self.get_mut(token)?.item {
            Item::Link(link) => Some(link),
            Item::Listener(_) | Item::Away => None,
        }
    }

    /// Gives a token back.
    pub(super) fn remove(&mut self, token: Token) -> Option<Slot> {
        let index = token.0.checked_sub(self.range.start)?;
        let slot = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        self.len -= 1;
        if self.len == 0 {
            // The memory of a crowd that has gone.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(slot)
    }

    pub(super) const fn contains(&self, token: Token) -> bool {
        self.range.start <= token.0 && token.0 < self.range.end
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}
