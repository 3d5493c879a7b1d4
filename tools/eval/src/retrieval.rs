//! Retrieval: which share of the queries finds its own among the first k.

/// Shares of the queries, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// Found first.
    pub at_1: f64,
    /// Among the first five.
    pub at_5: f64,
    /// Among the first ten.
    pub at_10: f64,
    /// Median rank of the first right answer, counted from 1.
    pub median_rank: f64,
}

/// Both directions between pictures and texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retrieval {
    /// A text is the query, its picture the answer.
    pub text_to_image: Recall,
    /// A picture is the query, any of its texts an answer.
    pub image_to_text: Recall,
}

/// Recall both ways from L2-normalised vectors. `owner[t]` is the index of the picture that text `t` describes.
///
/// Ties count against the model. Vectors are rows; all of one dimension.
pub fn retrieval(images: &[Vec<f32>], texts: &[Vec<f32>], owner: &[usize]) -> Retrieval {
    let similarity: Vec<Vec<f32>> =
        texts.iter().map(|text| images.iter().map(|image| image.iter().zip(text).map(|(a, b)| a * b).sum()).collect()).collect();
    retrieval_of(&similarity, images.len(), owner)
}

/// The same from `similarity[text][image]`.
pub fn retrieval_of(similarity: &[Vec<f32>], images: usize, owner: &[usize]) -> Retrieval {
    let by_text = similarity.iter().zip(owner).map(|(row, &own)| {
        let best = row.get(own).copied().unwrap_or(f32::NEG_INFINITY);
        1 + row.iter().enumerate().filter(|&(image, &score)| image != own && score >= best).count()
    });
    let by_image = (0..images).filter_map(|image| {
        let own = |text: usize| owner.get(text) == Some(&image);
        let column = || similarity.iter().enumerate().map(|(text, row)| (text, row.get(image).copied().unwrap_or(f32::NEG_INFINITY)));
        let best = column().filter(|&(text, _)| own(text)).map(|(_, score)| score).reduce(f32::max)?;
        Some(1 + column().filter(|&(text, score)| !own(text) && score >= best).count())
    });
    Retrieval { text_to_image: Recall::from_ranks(by_text.collect()), image_to_text: Recall::from_ranks(by_image.collect()) }
}

impl Recall {
    /// From each query's rank of its first right answer, counted from 1.
    pub fn from_ranks(mut ranks: Vec<usize>) -> Self {
        ranks.sort_unstable();
        let share = |k: usize| ranks.partition_point(|&rank| rank <= k) as f64 / ranks.len().max(1) as f64;
        let middle = |i: usize| ranks.get(i).copied().unwrap_or(0) as f64;
        let median_rank = (middle(ranks.len() / 2) + middle(ranks.len().saturating_sub(1) / 2)) / 2.0;
        Self { at_1: share(1), at_5: share(5), at_10: share(10), median_rank }
    }
}

#[cfg(test)]
mod tests {
    use super::{Recall, retrieval, retrieval_of};

    #[test]
    fn ranks_both_ways() {
        // Text 0 finds image 0 first; text 1 (image 1) prefers image 0; text 2 (image 1) is right.
        let similarity = [vec![0.9, 0.1], vec![0.8, 0.3], vec![0.2, 0.7]];
        let found = retrieval_of(&similarity, 2, &[0, 1, 1]);
        assert!((found.text_to_image.at_1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.text_to_image.at_5, 1.0);
        assert_eq!(found.image_to_text.at_1, 1.0);
    }

    #[test]
    fn a_model_that_says_the_same_of_everything_finds_nothing_first() {
        let same = vec![vec![1.0, 0.0]; 20];
        let found = retrieval(&same, &same, &(0..20).collect::<Vec<_>>());
        assert_eq!(found.text_to_image.at_10, 0.0);
        assert_eq!(found.image_to_text.at_10, 0.0);
    }

    #[test]
    fn median_of_ranks() {
        assert_eq!(Recall::from_ranks(vec![4, 1, 2, 10]).median_rank, 3.0);
        assert_eq!(Recall::from_ranks(vec![5, 1, 2]).median_rank, 2.0);
        assert_eq!(Recall::from_ranks(vec![]).at_1, 0.0);
    }
}
