use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::FakeClock;

/// A folder with `names`, each a picture of one pixel, or text where the name says so.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.contains("bad") || name.ends_with(".txt") {
            fs::write(path, "text").unwrap();
        } else {
            image::RgbImage::new(1, 1).save_with_format(path, image::ImageFormat::Png).unwrap();
        }
    }
    folder
}

fn names(place: &Path, recursive: bool) -> Vec<String> {
    let found = list(place, recursive).unwrap();
    found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn told(next: Result<Next, SourceError>) -> String {
    match next.unwrap() {
        Next::Frame(frame) => format!("{} {}", frame.meta().sequence, frame.meta().captured_at.as_millis()),
        Next::Bad { origin, .. } => format!("bad {}", Path::new(&origin).file_name().unwrap().to_str().unwrap()),
        Next::End => "end".to_owned(),
    }
}

#[test]
fn a_folder_in_natural_order_without_what_is_no_picture() {
    let folder = folder(&["b10.png", "b9.PNG", "a.jpeg", "notes.txt", "inner/c1.png", "folder.png/d.webp"]);
    assert_eq!(names(folder.path(), false), ["a.jpeg", "b9.PNG", "b10.png"]);
    assert_eq!(names(folder.path(), true), ["a.jpeg", "b9.PNG", "b10.png", "d.webp", "c1.png"]);
}

#[test]
fn a_pattern_and_a_file() {
    let folder = folder(&["x1.png", "x2.png", "y1.png", "x3.txt"]);
    assert_eq!(names(&folder.path().join("x*"), false), ["x1.png", "x2.png"]);
    assert_eq!(names(&folder.path().join("y1.png"), false), ["y1.png"]);
    assert_eq!(names(&folder.path().join("x3.txt"), false), ["x3.txt"], "a file that is named counts, whatever its ending");
}

#[test]
fn a_name_with_brackets_is_a_file_first() {
    let folder = folder(&["[1].png"]);
    assert_eq!(names(&folder.path().join("[1].png"), false), ["[1].png"]);
}

#[test]
fn nothing_there() {
    let folder = folder(&["notes.txt"]);
    assert!(matches!(list(folder.path(), true), Err(SourceError::Empty { .. })));
    assert!(matches!(list(&folder.path().join("*.png"), true), Err(SourceError::Empty { .. })));
    assert!(matches!(list(&folder.path().join("none"), true), Err(SourceError::Io { .. })));
    assert!(list(&folder.path().join("***"), true).unwrap_err().to_string().contains("not a pattern"));
}

#[test]
fn bad_pictures_are_told_and_the_rest_comes() {
    let (folder, clock) = (folder(&["1.png", "2bad.png", "3.png"]), FakeClock::default());
    let mut source = Pictures::open_with_clock(folder.path(), PictureOptions::default(), Arc::new(clock.clone())).unwrap();
    assert_eq!((source.len_hint(), source.live()), (Some(3), false));
    assert_eq!(told(source.next()), "0 0");
    clock.advance(Duration::from_millis(5));
    assert_eq!(told(source.next()), "bad 2bad.png");
    assert_eq!(told(source.next()), "2 5");
    assert_eq!(told(source.next()), "end");
    assert_eq!(told(source.next()), "end");
}

#[test]
fn a_loop_goes_on_unless_nothing_can_be_read() {
    let good = folder(&["1.png", "2bad.png"]);
    let looped = PictureOptions { looped: true, ..PictureOptions::default() };
    let mut source = Pictures::open_with_clock(good.path(), looped, Arc::new(FakeClock::default())).unwrap();
    assert_eq!(source.len_hint(), None);
    let seen: Vec<_> = (0..5).map(|_| told(source.next())).collect();
    assert_eq!(seen, ["0 0", "bad 2bad.png", "2 0", "bad 2bad.png", "4 0"]);

    let bad = folder(&["bad.png"]);
    let mut source = Pictures::open(bad.path(), looped).unwrap();
    assert_eq!([told(source.next()), told(source.next())], ["bad bad.png", "end"]);
}

#[test]
fn numbers_compare_as_numbers() {
    let mut names = ["img12", "img2", "img02", "img", "img1a", "img1", "Img3", "img00000000000000000000000000000000001b"];
    names.sort_by(|a, b| natural_order(a, b));
    assert_eq!(names, ["Img3", "img", "img1", "img1a", "img00000000000000000000000000000000001b", "img02", "img2", "img12"]);
}

proptest! {
    #[test]
    fn natural_order_is_an_order(a in "[a0-9é]{0,6}", b in "[a0-9é]{0,6}", c in "[a0-9é]{0,6}") {
        prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
        prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
        if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
            prop_assert!(natural_order(&a, &c).is_le());
        }
    }
}
