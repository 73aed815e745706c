use super::*;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A folder with one file in it.
fn folder(path: &Path, file: &str) {
    fs::create_dir(path).unwrap();
    fs::write(path.join(file), file).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Writes the folder `out` anew, with one file in it.
fn replace(target: &Path, file: &str) -> Result<()> {
    let partial = PartialDir::create(target, Existing::Replace)?;
    fs::write(partial.path().join(file), file).unwrap();
    partial.commit()
}

#[test]
fn two_processes_do_not_fill_one_directory() {
    let dir = scratch();
    let target = dir.path().join("out");
    let first = PartialDir::create(&target, Existing::Refuse).unwrap();
    fs::write(first.path().join("a.txt"), "first").unwrap();
    // A lock belongs to the open directory, so one process can stand for two.
    let refused = PartialDir::create(&target, Existing::Replace).unwrap_err();
    assert_eq!(refused.message(), "another process is writing this folder");
    assert!(first.path().join("a.txt").exists());
    // Somebody else was done first.
    fs::create_dir(&target).unwrap();
    let refused = first.commit().unwrap_err();
    assert_eq!(refused.message(), "output exists already");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    let after = PartialDir::create(&target, Existing::Replace).unwrap();
    after.commit().unwrap();
}

#[test]
fn a_directory_is_replaced_as_a_whole() {
    let dir = scratch();
    let target = dir.path().join("out");
    for (name, existing) in [("old", Existing::Refuse), ("new", Existing::Replace)] {
        let partial = PartialDir::create(&target, existing).unwrap();
        fs::write(partial.path().join(name), b"x").unwrap();
        partial.commit().unwrap();
    }
    assert!(target.join("new").exists() && !target.join("old").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn somebody_elses_folder_of_such_a_name_is_left_alone() {
    for name in ["out.partial", "out.replaced"] {
        let dir = scratch();
        let (target, theirs) = (dir.path().join("out"), dir.path().join(name));
        folder(&target, "old");
        folder(&theirs, "thesis.txt");
        let refused = replace(&target, "new").unwrap_err();
        assert!(refused.message().contains("something else"), "{refused}");
        assert!(refused.places()[0].file.ends_with(name), "{refused}");
        assert!(refused.causes()[0].contains("thesis.txt"), "{refused}");
        assert_eq!(names(&theirs), ["thesis.txt"]);
        assert_eq!(names(&target), ["old"]);
        assert_eq!(names(dir.path()), ["out", name]);
    }
    // A file, and a link, of that name.
    let dir = scratch();
    let target = dir.path().join("out");
    fs::write(dir.path().join("out.partial"), "a file").unwrap();
    replace(&target, "new").unwrap_err();
    assert_eq!(names(dir.path()), ["out.partial"]);
    // Nothing steps aside where nothing is replaced.
    let dir = scratch();
    folder(&dir.path().join("out.replaced"), "thesis.txt");
    replace(&dir.path().join("out"), "new").unwrap();
    assert_eq!(names(dir.path()), ["out", "out.replaced"]);
}

/// Put there while the new one was being filled.
#[test]
fn what_came_meanwhile_is_left_alone_too() {
    let dir = scratch();
    let (target, theirs) = (dir.path().join("out"), dir.path().join("out.replaced"));
    folder(&target, "old");
    let partial = PartialDir::create(&target, Existing::Replace).unwrap();
    folder(&theirs, "thesis.txt");
    partial.commit().unwrap_err();
    assert_eq!(names(dir.path()), ["out", "out.replaced"]);
    assert_eq!(
        (names(&target), names(&theirs)),
        (vec!["old".into()], vec!["thesis.txt".into()])
    );
}

/// What a kill leaves at every moment, as far as names can show it.
#[test]
fn left_overs_of_every_moment_are_cleared() {
    type Left = fn(&Path, &Path, &Path);
    let moments: [(&str, Left); 5] = [
        ("made, not marked", |_, partial, _| {
            fs::create_dir(partial).unwrap()
        }),
        ("being filled", |_, partial, _| {
            folder(partial, "half");
            mark(partial).unwrap();
        }),
        ("the old one stepped aside", |target, partial, aside| {
            folder(partial, "half");
            fs::write(partial.join(REPLACING), "").unwrap();
            fs::rename(target, aside).unwrap();
        }),
        ("it has its name, the old one goes", |target, _, aside| {
            fs::rename(target, aside).unwrap();
            folder(target, "half");
            fs::write(target.join(REPLACING), "").unwrap();
        }),
        ("the mark is still there", |target, _, _| {
            mark(target).unwrap()
        }),
    ];
    for (moment, left) in moments {
        let dir = scratch();
        let target = dir.path().join("out");
        folder(&target, "old");
        left(&target, &partial_name(&target), &aside_name(&target));
        // Without leave to replace it: whatever has the name stays, and is whole.
        let refused = PartialDir::create(&target, Existing::Refuse).unwrap_err();
        assert_eq!(refused.message(), "output exists already", "{moment}");
        assert_eq!(names(dir.path()), ["out"], "{moment}");
        assert_eq!(names(&target).len(), 1, "{moment}");
        left(&target, &partial_name(&target), &aside_name(&target));
        replace(&target, "new").unwrap();
        assert_eq!(names(dir.path()), ["out"], "{moment}");
        assert_eq!(names(&target), ["new"], "{moment}");
    }
}

#[test]
fn what_goes_is_known_as_ours() {
    let dir = scratch();
    let target = dir.path().join("out");
    for _ in 0..2 {
        // The second time beside what a kill has left of the first.
        folder(&target, "old");
        assert_eq!(set_aside(&target).unwrap(), partial_name(&target));
        assert_eq!(names(dir.path()), ["out.partial"]);
    }
    replace(&target, "new").unwrap();
    assert_eq!(names(dir.path()), ["out"]);
    folder(&partial_name(&target), "thesis.txt");
    set_aside(&target).unwrap_err();
    assert_eq!(names(&target), ["new"]);
}

/// The link stays, and the folder that it names is the new one.
#[test]
#[cfg(unix)]
fn a_link_to_a_folder_means_that_folder() {
    let dir = scratch();
    let (real, link) = (dir.path().join("disk/real"), dir.path().join("out"));
    fs::create_dir(dir.path().join("disk")).unwrap();
    folder(&real, "old");
    std::os::unix::fs::symlink("disk/real", &link).unwrap();
    for (target, file) in [(link.clone(), "new"), (dir.path().join("out/"), "newer")] {
        replace(&target, file).unwrap();
        assert!(link.is_symlink());
        assert_eq!(names(&real), [file]);
        assert_eq!(names(dir.path()), ["disk", "out"]);
        assert_eq!(names(&dir.path().join("disk")), ["real"]);
    }
    let refused = PartialDir::create(&link, Existing::Refuse).unwrap_err();
    assert_eq!(refused.message(), "output exists already");
    fs::remove_dir_all(&real).unwrap();
    let refused = replace(&link, "new").unwrap_err();
    assert!(refused.message().contains("leads nowhere"), "{refused}");
    assert!(link.is_symlink());
}

/// A checkpoint moved to another disk and linked back.
#[test]
#[cfg(unix)]
fn of_a_link_only_the_link_goes() {
    let dir = scratch();
    let (theirs, link) = (dir.path().join("theirs"), dir.path().join("out"));
    folder(&theirs, "notes.txt");
    for target in ["theirs", "nowhere"] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        remove_aside(&set_aside(&link).unwrap()).unwrap();
        std::os::unix::fs::symlink(target, partial_name(&link)).unwrap();
        remove_aside(&partial_name(&link)).unwrap();
        assert_eq!(names(dir.path()), ["theirs"], "{target}");
        assert_eq!(names(&theirs), ["notes.txt"], "{target}");
    }
}

#[test]
fn unmarked_left_overs_are_cleared_where_all_is_ours() {
    let dir = scratch();
    let target = dir.path().join("out");
    folder(&target, "whole");
    folder(&partial_name(&target), "half");
    folder(&aside_name(&target), "old");
    clear_unmarked(&target).unwrap();
    assert_eq!(names(dir.path()), ["out"]);
    assert_eq!(names(&target), ["whole"]);
    // The only whole one stays, and what is marked is cleared by the next write.
    fs::rename(&target, aside_name(&target)).unwrap();
    folder(&partial_name(&target), "half");
    mark(&partial_name(&target)).unwrap();
    clear_unmarked(&target).unwrap();
    assert_eq!(names(dir.path()), ["out.partial", "out.replaced"]);
}

#[test]
fn a_folder_without_a_name_of_its_own_is_refused_at_once() {
    for target in [".", "..", "a/..", "/"] {
        let refused = PartialDir::create(Path::new(target), Existing::Replace).unwrap_err();
        assert!(refused.message().contains("a name of its own"), "{target}");
    }
}
