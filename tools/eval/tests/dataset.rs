//! Folders in the data's format, as they are and as they should not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use std::fs;
use std::io::Write;
use std::path::Path;

use ocelli_eval::dataset::{DataError, Dataset, absent_phrases, entity_phrases, label_phrases};

const ENTITIES: &str = r#"{"file":"images/a.jpg","w":100,"h":100,"split":"dev","entities":[
{"id":"1","phrases":["A dog","The dog"],"boxes":[[0,0,50,50]],"head":"dog","label":"dog"},
{"id":"2","phrases":["a man","The dog"],"boxes":[[10,10,20,80]],"head":"man","label":"man"},
{"id":"3","phrases":["two cats"],"boxes":[[1,1,5,5],[8,8,5,5]],"head":"cats","label":"cats"}]}
{"file":"images/b.jpg","w":100,"h":50,"split":"train","entities":[{"id":"4","phrases":["A red car"],"boxes":[[20,10,50,25]],"head":"car"},{"id":"5","phrases":["a man"],"boxes":[[0,0,1,1]],"head":"man"}]}
"#;

fn write(folder: &Path, name: &str, text: &str) {
    // One record a line; the constants above are broken for reading.
    let lines = text.replace(",\n", ",").replace("[\n", "[");
    fs::write(folder.join(name), lines).unwrap();
}

#[test]
fn one_box_phrases_leave_out_what_is_ambiguous() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "entities.jsonl", ENTITIES);
    let records = Dataset::open(folder.path()).unwrap().entities(None).unwrap();
    let texts: Vec<_> = entity_phrases(&records).into_iter().map(|phrase| (phrase.picture, phrase.text)).collect();
    // "the dog" names two entities, "two cats" have two boxes.
    assert_eq!(texts, [(0, "a dog".into()), (0, "a man".into()), (1, "a man".into()), (1, "a red car".into())]);
    let car = &entity_phrases(&records)[3];
    assert_eq!((car.boxes[0].x1, car.boxes[0].y1, car.area), (70.0, 35.0, 0.25));
}

#[test]
fn absent_phrases_name_what_the_picture_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "entities.jsonl", ENTITIES);
    let records = Dataset::open(folder.path()).unwrap().entities(None).unwrap();
    let absent = absent_phrases(&records, 3);
    assert!(!absent.is_empty());
    for phrase in absent {
        assert!(phrase.boxes.is_empty() && !phrase.text.contains("man"), "{phrase:?}"); // both pictures show a man
    }
}

#[test]
fn splits_and_gzip() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"file\":\"images/a.jpg\",\"captions\":[\"x\"],\"split\":\"dev\"}\n\n{\"file\":\"images/b.jpg\",\"captions\":[\"y\"],\"split\":\"train\"}\n";
    let mut file =
        flate2::write::GzEncoder::new(fs::File::create(folder.path().join("captions.jsonl.gz")).unwrap(), flate2::Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
    let data = Dataset::open(folder.path()).unwrap();
    assert_eq!(data.captions(None).unwrap().len(), 2);
    assert_eq!(data.captions(Some("dev")).unwrap()[0].file, "images/a.jpg");
}

#[test]
fn captions_of_a_boxes_file_and_labels_with_articles() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"file":"images/a.jpg","w":10,"h":10,"boxes":[[0,0,5,5,"orange"],[5,5,5,5,"orange"],[0,0,1,1,"dog"]],"captions":[]}"#;
    write(folder.path(), "boxes.jsonl", text);
    let data = Dataset::open(folder.path()).unwrap();
    assert!(data.captions(None).unwrap().is_empty()); // a picture without captions is no caption record
    let phrases = label_phrases(&data.boxes(None).unwrap());
    let texts: Vec<_> = phrases.iter().map(|phrase| (phrase.text.as_str(), phrase.boxes.len())).collect();
    assert_eq!(texts, [("a dog", 1), ("an orange", 2)]);
}

#[test]
fn pictures_from_a_folder_and_from_a_tar() {
    let plain = tempfile::tempdir().unwrap();
    fs::create_dir(plain.path().join("images")).unwrap();
    fs::write(plain.path().join("images/a.jpg"), b"one").unwrap();
    fs::write(plain.path().join("images/notes.txt"), b"no picture").unwrap();
    let packed = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(fs::File::create(packed.path().join("images.tar")).unwrap());
    for (name, bytes) in [("images/a.jpg", &b"one"[..]), ("images/b.jpg", b"second")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.finish().unwrap();
    for folder in [&plain, &packed] {
        let pictures = Dataset::open(folder.path()).unwrap().pictures().unwrap();
        assert_eq!(pictures.read("images/a.jpg").unwrap(), b"one");
        assert_eq!(pictures.names().unwrap()[0], "images/a.jpg");
        assert!(matches!(pictures.read("images/none.jpg"), Err(DataError::Io { .. })));
        assert!(
            matches!(pictures.read("../secret"), Err(DataError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied)
        );
    }
    assert_eq!(Dataset::open(plain.path()).unwrap().pictures().unwrap().names().unwrap().len(), 1);
    assert_eq!(Dataset::open(packed.path()).unwrap().pictures().unwrap().names().unwrap(), ["images/a.jpg", "images/b.jpg"]);
    assert_eq!(Dataset::open(packed.path()).unwrap().pictures().unwrap().read("images/b.jpg").unwrap(), b"second");
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Dataset::open(folder.path().join("none")), Err(DataError::Io { .. })));
    let data = Dataset::open(folder.path()).unwrap();
    assert!(matches!(data.pictures(), Err(DataError::Missing { .. })));
    assert!(data.captions(None).unwrap_err().to_string().contains("captions.jsonl"));
    fs::write(folder.path().join("captions.jsonl"), "{\"file\":\"a\",\"captions\":[]}\n{oops\n").unwrap();
    assert!(data.captions(None).unwrap_err().to_string().contains("line 2"));
}
