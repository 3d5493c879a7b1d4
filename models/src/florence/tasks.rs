//! What Florence-2 can be asked for: the tasks of transformers' `Florence2Processor` at 5.23, their prompts, and how their answers are read.

use ocelli_flow::ModelError;

/// Something that the model was trained to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// As a user names it.
    pub name: &'static str,
    /// As the processor names it.
    pub token: &'static str,
    /// What the model reads; `{input}` stands for the user's text.
    pub prompt: &'static str,
    /// What the model writes.
    pub answer: Answer,
}

/// How an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// As it is.
    Text,
    /// Phrases, each before its boxes.
    Boxes,
    /// The same; some phrases are left out.
    Phrases,
    /// Boxes without phrases.
    Proposals,
    /// Texts, each before the four corners of its place.
    Quadrilaterals,
    /// Phrases, each before its boxes or, where there is one, its polygons.
    BoxesOrPolygons,
    /// Polygons, which no [`ocelli_flow::Detection`] holds: not read.
    Polygons,
}

/// What stands for the user's text in a prompt.
const INPUT: &str = "{input}";

/// A caption, where nothing is asked for.
pub const CAPTION: &Task = &TASKS[0];
/// What phrases are looked for with.
pub const GROUNDING: &Task = &TASKS[8];

/// Every task; the last two answer in polygons and are only known by their prompts.
pub const TASKS: [Task; 15] = [
    task("caption", "<CAPTION>", "What does the image describe?", Answer::Text),
    task("detailed_caption", "<DETAILED_CAPTION>", "Describe in detail what is shown in the image.", Answer::Text),
    task("more_detailed_caption", "<MORE_DETAILED_CAPTION>", "Describe with a paragraph what is shown in the image.", Answer::Text),
    task("ocr", "<OCR>", "What is the text in the image?", Answer::Text),
    task("ocr_with_region", "<OCR_WITH_REGION>", "What is the text in the image, with regions?", Answer::Quadrilaterals),
    task("object_detection", "<OD>", "Locate the objects with category name in the image.", Answer::Boxes),
    task("dense_region_caption", "<DENSE_REGION_CAPTION>", "Locate the objects in the image, with their descriptions.", Answer::Boxes),
    task("region_proposal", "<REGION_PROPOSAL>", "Locate the region proposals in the image.", Answer::Proposals),
    task("caption_to_phrase_grounding", "<CAPTION_TO_PHRASE_GROUNDING>", "Locate the phrases in the caption: {input}", Answer::Phrases),
    task("open_vocabulary_detection", "<OPEN_VOCABULARY_DETECTION>", "Locate {input} in the image.", Answer::BoxesOrPolygons),
    task("region_to_category", "<REGION_TO_CATEGORY>", "What is the region {input}?", Answer::Text),
    task("region_to_description", "<REGION_TO_DESCRIPTION>", "What does the region {input} describe?", Answer::Text),
    task("region_to_ocr", "<REGION_TO_OCR>", "What text is in the region {input}?", Answer::Text),
    task(
        "referring_expression_segmentation",
        "<REFERRING_EXPRESSION_SEGMENTATION>",
        "Locate {input} in the image with mask",
        Answer::Polygons,
    ),
    task("region_to_segmentation", "<REGION_TO_SEGMENTATION>", "What is the polygon mask of region {input}", Answer::Polygons),
];

/// Names of the tasks whose answers are read.
pub const NAMES: [&str; 13] = {
    let mut names = [""; 13];
    let mut i = 0;
    while i < names.len() {
        names[i] = TASKS[i].name;
        i += 1;
    }
    names
};

const fn task(name: &'static str, token: &'static str, prompt: &'static str, answer: Answer) -> Task {
    Task { name, token, prompt, answer }
}

impl Task {
    /// The task of a name or a token; a caption where none is named.
    ///
    /// # Errors
    /// Where there is no such task, which names those there are, or where it answers in polygons.
    pub fn named(name: Option<&str>) -> Result<&'static Self, ModelError> {
        let Some(name) = name else { return Ok(CAPTION) };
        match TASKS.iter().find(|task| [task.name, task.token].contains(&name)) {
            Some(task) if task.answer == Answer::Polygons => {
                Err(ModelError::Unsupported { what: "outline regions: results have boxes, and no polygons" })
            }
            Some(task) => Ok(task),
            None => Err(ModelError::Option { option: "task", reason: format!("{name:?} is not known; there are {}", NAMES.join(", ")) }),
        }
    }

    /// Whether the user has to say what it is about.
    pub fn needs_input(&self) -> bool {
        self.prompt.contains(INPUT)
    }

    /// What the model reads, where the user says `input`.
    ///
    /// # Errors
    /// Where a text is missing that the task needs, or there is one that it does not take.
    pub fn prompt(&self, input: Option<&str>) -> Result<String, ModelError> {
        let input = input.map(str::trim).filter(|input| !input.is_empty());
        let wrong = |reason: String| Err(ModelError::Option { option: "prompt", reason });
        match input {
            None if self.needs_input() => wrong(format!("task {} needs a text; give one with --prompt", self.name)),
            Some(_) if !self.needs_input() => wrong(format!("task {} takes none; leave it out", self.name)),
            input => Ok(self.prompt.replace(INPUT, input.unwrap_or_default())),
        }
    }
}

/// A text as the processor takes it, where a task's token may stand for its prompt.
///
/// # Errors
/// Where a token whose task takes no text is not alone.
pub fn expand(text: &str) -> Result<String, ModelError> {
    if let Some(task) = TASKS.iter().find(|task| !task.needs_input() && text.contains(task.token)) {
        if text != task.token {
            let reason = format!("{} stands alone: its task takes no text", task.token);
            return Err(ModelError::Text { text: text.chars().take(40).collect(), reason });
        }
        return Ok(task.prompt.to_owned());
    }
    let found = TASKS.iter().find(|task| task.needs_input() && text.contains(task.token));
    Ok(found.map_or_else(|| text.to_owned(), |task| task.prompt.replace(INPUT, text.replace(task.token, "").trim())))
}

/// Phrases that are not grounded where the checkpoint does not list them: those of Microsoft's processor.
pub const BANNED_PHRASES: [&str; 72] = [
    "it",
    "I",
    "me",
    "mine",
    "you",
    "your",
    "yours",
    "he",
    "him",
    "his",
    "she",
    "her",
    "hers",
    "they",
    "them",
    "their",
    "theirs",
    "one",
    "oneself",
    "we",
    "us",
    "our",
    "ours",
    "its",
    "myself",
    "yourself",
    "himself",
    "herself",
    "itself",
    "ourselves",
    "yourselves",
    "themselves",
    "this",
    "that",
    "these",
    "those",
    "who",
    "whom",
    "whose",
    "which",
    "what",
    "all",
    "another",
    "any",
    "anybody",
    "anyone",
    "anything",
    "each",
    "everybody",
    "everyone",
    "everything",
    "few",
    "many",
    "nobody",
    "none",
    "several",
    "some",
    "somebody",
    "someone",
    "something",
    "each other",
    "one another",
    "the image",
    "image",
    "images",
    "the",
    "a",
    "an",
    "a group",
    "other objects",
    "lots",
    "a set",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_found_by_name_and_token() {
        assert_eq!(Task::named(None).unwrap().token, "<CAPTION>");
        assert_eq!(Task::named(Some("object_detection")).unwrap().token, "<OD>");
        assert_eq!(Task::named(Some("<OD>")).unwrap().name, "object_detection");
        assert_eq!(GROUNDING.token, "<CAPTION_TO_PHRASE_GROUNDING>");
        let unknown = Task::named(Some("translate")).unwrap_err().to_string();
        assert!(NAMES.iter().all(|name| unknown.contains(name)), "{unknown}");
        let polygons = Task::named(Some("<REGION_TO_SEGMENTATION>"));
        assert!(matches!(polygons, Err(ModelError::Unsupported { .. })));
        assert!(TASKS.iter().all(|task| NAMES.contains(&task.name) != (task.answer == Answer::Polygons)));
    }

    #[test]
    fn prompts_have_their_texts() {
        let grounding = Task::named(Some("caption_to_phrase_grounding")).unwrap();
        assert_eq!(grounding.prompt(Some(" a red bus ")).unwrap(), "Locate the phrases in the caption: a red bus");
        assert!(grounding.prompt(Some("  ")).unwrap_err().to_string().contains("needs a text"));
        assert!(CAPTION.prompt(Some("a red bus")).unwrap_err().to_string().contains("takes none"));
        assert_eq!(expand("<CAPTION>").unwrap(), "What does the image describe?");
        assert_eq!(expand("<OPEN_VOCABULARY_DETECTION>a bus").unwrap(), "Locate a bus in the image.");
        assert_eq!(expand("something else").unwrap(), "something else");
        assert!(expand("<CAPTION> of a bus").is_err());
    }
}
