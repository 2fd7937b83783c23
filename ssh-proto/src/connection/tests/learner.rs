//! Learns a state machine from outside: two words lead to the same state if nothing that is said after them is answered
//! differently. Words are sorted by a tree of what tells them apart (Kearns and Vazirani), which grows by the shortest
//! suffix of a word that was answered otherwise than the machine says (Rivest and Schapire).

use std::collections::BTreeMap;

use super::soak::Draw;

/// Letters, by their place in the alphabet.
pub(super) type Word = Vec<usize>;

/// What comes of a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Nothing that is said afterwards is answered.
    pub(super) is_end: bool,
}

/// Where a letter leads to.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) answer: Answer,
    /// The state behind it. `None`: it is over.
    pub(super) to: Option<usize>,
}

#[derive(Debug)]
pub(super) struct State {
    /// A word that leads here: in what was learned, the shortest.
    pub(super) access: Word,
    /// For each letter of the alphabet.
    pub(super) moves: Vec<Move>,
}

impl State {
    const fn new(access: Word) -> Self {
        Self {
            access,
            moves: Vec::new(),
        }
    }
}

/// State 0 is the first.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) states: Vec<State>,
}

impl Machine {
    /// The moves of a word, as far as it goes.
    fn run<'w>(&self, word: &'w [usize]) -> impl Iterator<Item = &Move> + use<'_, 'w> {
        let mut state = Some(0);
        word.iter().map_while(move |letter| {
            let next = &self.states[state?].moves[*letter];
            state = next.to;
            Some(next)
        })
    }

    /// The state behind a word. `None`: it is over before.
    pub(super) fn state_behind(&self, word: &[usize]) -> Option<usize> {
        let step = |state: usize, letter: &usize| self.states[state].moves[*letter].to;
        word.iter().try_fold(0, step)
    }

    /// The same with its states in the order of their shortest words, which does not depend on how it was learned.
    fn in_order(mut self) -> Self {
        let mut order = vec![(0, Vec::new())];
        let mut at = 0;
        while let Some((state, access)) = order.get(at).cloned() {
            at += 1;
            for (letter, next) in self.states[state].moves.iter().enumerate() {
                if let Some(to) = next.to
                    && order.iter().all(|(known, _)| *known != to)
                {
                    order.push((to, [&*access, &[letter]].concat()));
                }
            }
        }
        let place = |state| order.iter().position(|(known, _)| *known == state);
        let states = order.iter().map(|(state, access)| {
            let mut moves = std::mem::take(&mut self.states[*state].moves);
            for next in &mut moves {
                next.to = next.to.and_then(place);
            }
            State {
                access: access.clone(),
                moves,
            }
        });
        Self {
            states: states.collect(),
        }
    }

    /// Each letter that leads to another state, and, as one word, those that do not: if one of them did, what is behind the
    /// word would tell.
    fn starts(&self, state: usize) -> Vec<Word> {
        let stays = |letter: &usize| self.states[state].moves[*letter].to == Some(state);
        let letters = 0..self.states[state].moves.len();
        let (stay, leave): (Word, Word) = letters.partition(stays);
        let leave = leave.into_iter().map(|letter| vec![letter]);
        leave.chain(std::iter::once(stay)).collect()
    }

    /// Every move, with the state that it starts from and its letter.
    pub(super) fn moves(&self) -> impl Iterator<Item = (usize, usize, &Move)> {
        let states = self.states.iter().enumerate();
        states.flat_map(|(from, state)| {
            let moves = state.moves.iter().enumerate();
            moves.map(move |(letter, to)| (from, letter, to))
        })
    }

    /// The states that are reached from one without a move of that kind.
    pub(super) fn reached(&self, from: usize, cut: impl Fn(usize, &Move) -> bool) -> Vec<usize> {
        let mut reached = vec![from];
        let mut at = 0;
        while let Some(state) = reached.get(at) {
            at += 1;
            for (letter, next) in self.states[*state].moves.iter().enumerate() {
                if let Some(to) = next.to
                    && !cut(letter, next)
                    && !reached.contains(&to)
                {
                    reached.push(to);
                }
            }
        }
        reached
    }
}

/// Tells states apart by what comes behind a suffix.
#[derive(Debug)]
enum Node {
    State(usize),
    Split {
        suffix: Word,
        children: Vec<(Vec<Answer>, usize)>,
    },
}

pub(super) struct Learner<F> {
    letters: usize,
    /// What is tried behind each move, each with every letter behind it.
    phrases: Vec<Word>,
    /// What comes of each letter of a word, up to the end.
    ask: F,
    /// What came of the last letter of each word that was asked.
    known: BTreeMap<Word, Answer>,
    /// The tree that sorts words into states, from node 0.
    nodes: Vec<Node>,
    machine: Machine,
    draw: Draw,
}

impl<F: Fn(&[usize]) -> Vec<Answer>> Learner<F> {
    pub(super) fn new(letters: usize, phrases: Vec<Word>, ask: F) -> Self {
        Self {
            letters,
            phrases,
            ask,
            known: BTreeMap::new(),
            nodes: vec![Node::State(0)],
            machine: Machine {
                states: vec![State::new(Vec::new())],
            },
            draw: Draw(1),
        }
    }

    /// The smallest machine that answers as the real one does, as far as words tell: each letter over and over, the same
    /// behind each phrase behind each move, and so many words at random.
    pub(super) fn learn(mut self, words: usize) -> Machine {
        let phrases = std::mem::take(&mut self.phrases);
        self.complete();
        loop {
            let states = self.machine.states.len();
            let mut state = 0;
            while state < self.machine.states.len() {
                let access = self.machine.states[state].access.clone();
                for letter in 0..self.letters {
                    // What is counted.
                    self.check(&[&*access, &[letter; 5]].concat());
                }
                for start in self.machine.starts(state) {
                    for phrase in &phrases {
                        for next in 0..self.letters {
                            self.check(&[&*access, &start, phrase, &[next; 3]].concat());
                        }
                    }
                }
                state += 1;
            }
            for _ in 0..words {
                let word = random_word(&mut self.draw, &self.machine, &phrases);
                self.check(&word);
            }
            if self.machine.states.len() == states {
                return self.machine.in_order();
            }
        }
    }

    /// The machine answers to a word as the real one does, or is told so.
    fn check(&mut self, word: &[usize]) {
        let answers = self.answers(word);
        loop {
            let differs = {
                let mut expected = self.machine.run(word).map(|next| &next.answer);
                (0..word.len()).find(|i| expected.next() != answers.get(*i))
            };
            let Some(last) = differs else {
                return;
            };
            self.correct(&word[..=last]);
        }
    }

    /// How far a word is answered, if that is known.
    fn known_len(&self, word: &[usize]) -> Option<usize> {
        let lens = (1..=word.len()).rev();
        let (len, answer) = lens
            .map(|len| (len, self.known.get(&word[..len])))
            .find(|(_, answer)| answer.is_some())?;
        (len == word.len() || answer?.is_end).then_some(len)
    }

    fn answers(&mut self, word: &[usize]) -> Vec<Answer> {
        if self.known_len(word).is_none() {
            for (i, answer) in (self.ask)(word).into_iter().enumerate() {
                self.known.insert(word[..=i].to_vec(), answer);
            }
        }
        let len = self.known_len(word).unwrap_or(0);
        (1..=len)
            .map(|len| self.known[&word[..len]].clone())
            .collect()
    }

    /// The state that a word leads to: a new one if nothing was answered like that before.
    fn sift(&mut self, word: &[usize]) -> usize {
        let mut node = 0;
        loop {
            let suffix = match &self.nodes[node] {
                Node::State(state) => return *state,
                Node::Split { suffix, .. } => suffix.clone(),
            };
            let behind = self.answers_behind(word, &suffix);
            let (new, state) = (self.nodes.len(), self.machine.states.len());
            let Node::Split { children, .. } = &mut self.nodes[node] else {
                unreachable!("it was one");
            };
            match children.iter().find(|(answers, _)| *answers == behind) {
                Some((_, child)) => node = *child,
                None => {
                    children.push((behind, new));
                    self.nodes.push(Node::State(state));
                    self.machine.states.push(State::new(word.to_vec()));
                    return state;
                }
            }
        }
    }

    fn answers_behind(&mut self, word: &[usize], suffix: &[usize]) -> Vec<Answer> {
        let mut answers = self.answers(&[word, suffix].concat());
        answers.split_off(word.len())
    }

    /// Finds the moves that are not known.
    fn complete(&mut self) {
        let mut at = 0;
        while let Some(state) = self.machine.states.get(at) {
            let (access, letter) = (state.access.clone(), state.moves.len());
            if letter == self.letters {
                at += 1;
                continue;
            }
            assert!(at < 1_000, "states without end, the last behind {access:?}");
            let word = [&*access, &[letter]].concat();
            let answer = self.answers(&word).pop().expect("a letter is answered");
            let to = (!answer.is_end).then(|| self.sift(&word));
            self.machine.states[at].moves.push(Move { answer, to });
        }
    }

    /// The machine is wrong about the last letter of this word: a suffix of it tells two words apart that are taken to lead to
    /// the same state.
    fn correct(&mut self, word: &[usize]) {
        let states: Vec<usize> = std::iter::once(0)
            .chain(self.machine.run(word).map_while(|next| next.to))
            .collect();
        let mut last = |i: usize| {
            let access = self.machine.states[states[i]].access.clone();
            let answers = self.answers_behind(&access, &word[i..]);
            answers.get(word.len() - i - 1).cloned()
        };
        let wrong = last(word.len() - 1);
        let right = (0..word.len() - 1).rev().find(|i| last(*i) != wrong);
        let i = right.expect("what is asked twice is answered alike");
        let (state, suffix) = (states[i + 1], word[i + 1..].to_vec());
        let access = &self.machine.states[states[i]].access;
        let access = [access, &word[i..=i]].concat();
        self.split(state, access, suffix);
    }

    /// A word that was sorted into this state leads to another, as the suffix tells.
    fn split(&mut self, state: usize, access: Word, suffix: Word) {
        let old = self.machine.states[state].access.clone();
        let new_state = self.machine.states.len();
        let children = vec![
            (self.answers_behind(&old, &suffix), self.nodes.len()),
            (self.answers_behind(&access, &suffix), self.nodes.len() + 1),
        ];
        let split = Node::Split { suffix, children };
        let is_it = |node: &Node| matches!(node, Node::State(known) if *known == state);
        let node = self
            .nodes
            .iter()
            .position(is_it)
            .expect("each state has a leaf");
        self.nodes[node] = split;
        self.nodes
            .extend([Node::State(state), Node::State(new_state)]);
        self.machine.states.push(State::new(access));
        for from in 0..new_state {
            for letter in 0..self.letters {
                if self.machine.states[from].moves[letter].to == Some(state) {
                    let word = [&*self.machine.states[from].access, &[letter]].concat();
                    let to = self.sift(&word);
                    self.machine.states[from].moves[letter].to = Some(to);
                }
            }
        }
        self.complete();
    }
}

/// Parts of the phrases, and letters, mostly such that lead on.
fn random_word(draw: &mut Draw, machine: &Machine, phrases: &[Word]) -> Word {
    let mut word = Vec::new();
    for _ in 0..=draw.below(12) {
        let Some(state) = machine.state_behind(&word) else {
            break;
        };
        let moves = &machine.states[state].moves;
        if draw.one_in(2) {
            let phrase = &phrases[draw.below(phrases.len())];
            word.extend(&phrase[..draw.below(phrase.len() + 1)]);
        } else if draw.one_in(8) {
            word.push(draw.below(moves.len()));
        } else {
            let leads_on = |letter: &usize| moves[*letter].to.is_some_and(|to| to != state);
            let letters: Vec<usize> = (0..moves.len()).filter(leads_on).collect();
            if !letters.is_empty() {
                word.push(letters[draw.below(letters.len())]);
            }
        }
    }
    word
}

/// A turnstile that counts coins to four, and breaks if it is pushed twice without one.
fn turnstile(word: &[usize]) -> Vec<Answer> {
    let mut coins = 0;
    let mut pushed = false;
    let mut answers = Vec::new();
    for letter in word {
        let text = match (letter, coins) {
            (0, 0..4) => {
                coins += 1;
                "taken"
            }
            (0, _) => "full",
            (_, 0) if pushed => "broken",
            (_, 0) => "locked",
            (_, _) => {
                coins -= 1;
                "open"
            }
        };
        pushed = *letter == 1 && text == "locked";
        answers.push(Answer {
            text: text.to_owned(),
            is_end: text == "broken",
        });
        if text == "broken" {
            break;
        }
    }
    answers
}

#[test]
fn states_that_only_longer_words_tell_apart_are_found() {
    let machine = Learner::new(2, vec![vec![]], turnstile).learn(0);
    // 0 to 4 coins, and none after a push.
    assert_eq!(machine.states.len(), 6);
    let ends = machine.moves().filter(|(_, _, next)| next.to.is_none());
    assert_eq!(ends.count(), 1);
    let no_coin = machine.reached(0, |letter, _| letter == 0);
    assert_eq!(no_coin.len(), 2);
}
