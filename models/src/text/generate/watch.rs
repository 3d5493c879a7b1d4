//! Who hears of tokens, and may stop them.

use std::ops::ControlFlow;

use ocelli_flow::{Finish, Listener};

/// Hears of every token of the sequence, and of the steps of a beam search.
pub trait Watch {
    /// A token came, which does not end the text.
    fn token(&mut self, token: u32) -> ControlFlow<Finish>;

    /// A step of a beam search is done.
    fn step(&mut self) -> ControlFlow<Finish> {
        ControlFlow::Continue(())
    }

    /// Whether a beam that ends with these tokens, the last of which is new, has reached a text to stop at.
    fn stops(&self, _tokens: &[u32]) -> bool {
        false
    }
}

/// Nobody watches.
impl Watch for () {
    fn token(&mut self, _token: u32) -> ControlFlow<Finish> {
        ControlFlow::Continue(())
    }
}

/// Tokens to text, as far as it is certain.
pub trait Detokenizer {
    /// The text of `tokens`, special ones left out.
    fn text(&self, tokens: &[u32]) -> String;
}

/// A text as it grows: handed on piece by piece, and stopped at given texts.
pub struct Ending<'a> {
    detokenizer: &'a dyn Detokenizer,
    stops: &'a [String],
    listener: &'a mut dyn Listener,
    tokens: Vec<u32>,
    /// Bytes of the text that the listener has.
    said: usize,
}

impl<'a> Ending<'a> {
    /// Of a text that has not begun.
    pub fn new(detokenizer: &'a dyn Detokenizer, stops: &'a [String], listener: &'a mut dyn Listener) -> Self {
        Self { detokenizer, stops, listener, tokens: Vec::new(), said: 0 }
    }

    /// The whole text of the tokens that came in the end, cut at the first text to stop at; the listener has heard all of it then.
    pub fn finish(mut self, tokens: &[u32]) -> String {
        let mut text = self.detokenizer.text(tokens);
        if let Some(at) = first_stop(&text, self.stops) {
            text.truncate(at);
        }
        // What a listener says to the last piece changes nothing any more.
        let _ = self.say(&text, text.len());
        text
    }

    /// Hands on `text` up to byte `end`.
    fn say(&mut self, text: &str, end: usize) -> ControlFlow<()> {
        let piece = text.get(self.said..end).unwrap_or_default();
        if piece.is_empty() {
            return ControlFlow::Continue(());
        }
        self.said = end;
        self.listener.piece(piece)
    }
}

impl Watch for Ending<'_> {
    fn token(&mut self, token: u32) -> ControlFlow<Finish> {
        if self.stops.is_empty() && !self.listener.hears() {
            return ControlFlow::Continue(());
        }
        self.tokens.push(token);
        let text = self.detokenizer.text(&self.tokens);
        if first_stop(&text, self.stops).is_some() {
            return ControlFlow::Break(Finish::Stop);
        }
        let end = certain(&text, self.stops);
        match self.say(&text, end) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(Finish::Cancelled),
        }
    }

    fn step(&mut self) -> ControlFlow<Finish> {
        match self.listener.piece("") {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(Finish::Cancelled),
        }
    }

    fn stops(&self, tokens: &[u32]) -> bool {
        !self.stops.is_empty() && first_stop(&self.detokenizer.text(tokens), self.stops).is_some()
    }
}

/// Where the first of the texts to stop at begins.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
}

/// How many bytes of a text can only stay: no half of a character at the end, no beginning of a text to stop at.
fn certain(text: &str, stops: &[String]) -> usize {
    let whole = text.trim_end_matches('\u{fffd}');
    // Blanks at the end may be cut off by a decoder that joins words.
    let whole = whole.trim_end();
    let begun = |stop: &String| {
        let starts = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0);
        starts.filter(|&at| whole.ends_with(&stop[..at])).max().unwrap_or(0)
    };
    whole.len() - stops.iter().map(begun).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token is a letter of ASCII.
    struct Letters;

    impl Detokenizer for Letters {
        fn text(&self, tokens: &[u32]) -> String {
            tokens.iter().filter_map(|&token| char::from_u32(token)).collect()
        }
    }

    #[test]
    fn a_text_to_stop_at_is_cut_off_and_never_heard() {
        let mut heard = String::new();
        let stops = ["END".to_owned(), "\n".to_owned()];
        let mut listener = |piece: &str| {
            heard.push_str(piece);
            ControlFlow::Continue(())
        };
        let mut ending = Ending::new(&Letters, &stops, &mut listener);
        let mut finish = None;
        let tokens: Vec<u32> = "a EN ENDs".chars().map(u32::from).collect();
        let mut came = Vec::new();
        for &token in &tokens {
            came.push(token);
            if let ControlFlow::Break(why) = ending.token(token) {
                finish = Some(why);
                break;
            }
        }
        assert_eq!(finish, Some(Finish::Stop));
        assert_eq!(ending.finish(&came), "a EN ");
        assert_eq!(heard, "a EN ");
    }

    #[test]
    fn a_listener_can_stop() {
        let mut listener = |_: &str| ControlFlow::Break(());
        let mut ending = Ending::new(&Letters, &[], &mut listener);
        assert_eq!(ending.token(65), ControlFlow::Break(Finish::Cancelled));
        assert_eq!(ending.step(), ControlFlow::Break(Finish::Cancelled));
    }
}
