//! A prompt with pictures: the marker of each becomes its tiles' tokens.

use ocelli_flow::ModelError;
use ocelli_preprocess::Tiles;

/// What stands for a picture in a prompt, and for each of its vectors in the words that the tokenizer reads.
pub const IMAGE: &str = "<image>";
const AROUND: &str = "<fake_token_around_image>";
const WHOLE: &str = "<global-img>";

/// The prompt with every marker replaced by the words of its picture's tiles, each of `tokens` vectors.
///
/// # Errors
/// Where there are more markers than pictures, or fewer.
pub fn expand(prompt: &str, pictures: &[Tiles], tokens: usize) -> Result<String, ModelError> {
    let markers = prompt.matches(IMAGE).count();
    if markers != pictures.len() {
        let (is, has) = (count(markers, "marker"), count(pictures.len(), "picture"));
        let reason = format!("the prompt has {is} {IMAGE} and comes with {has}; give one --image for each marker");
        return Err(ModelError::Prompt { reason });
    }
    let mut parts = prompt.split(IMAGE);
    let mut words = parts.next().unwrap_or_default().to_owned();
    for (tiles, rest) in pictures.iter().zip(parts) {
        words.push_str(&of_picture(tiles, tokens));
        words.push_str(rest);
    }
    Ok(words)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The words of a picture: tile by tile, row by row, then its whole.
fn of_picture(tiles: &Tiles, tokens: usize) -> String {
    let vectors = IMAGE.repeat(tokens);
    let mut words = String::new();
    for row in 1..=tiles.rows {
        for column in 1..=tiles.columns {
            words.push_str(&format!("{AROUND}<row_{row}_col_{column}>{vectors}"));
        }
        words.push('\n');
    }
    if tiles.rows > 0 {
        words.push('\n');
    }
    words + AROUND + WHOLE + &vectors + AROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_becomes_the_words_of_its_tiles() {
        let whole = "<fake_token_around_image><global-img><image><image><fake_token_around_image>";
        assert_eq!(expand("User:<image>What?", &[Tiles::default()], 2).unwrap(), format!("User:{whole}What?"));
        let tiles = Tiles { rows: 1, columns: 2 };
        let tile = |column| format!("<fake_token_around_image><row_1_col_{column}><image><image>");
        assert_eq!(expand("<image>", &[tiles], 2).unwrap(), format!("{}{}\n\n{whole}", tile(1), tile(2)));
    }

    #[test]
    fn markers_and_pictures_must_be_as_many() {
        let error = expand("<image><image>", &[Tiles::default()], 2).unwrap_err().to_string();
        assert!(error.contains("2 markers <image> and comes with 1 picture"), "{error}");
        assert!(expand("no marker", &[Tiles::default()], 2).is_err());
    }
}
