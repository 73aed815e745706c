//! What `cubecl-environment` relies on.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use turso::transaction::TransactionBehavior;
use turso::{Builder, Connection, Error};

const CREATE: &str =
    "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, origin INTEGER NOT NULL)";
const INSERT: &str = "INSERT INTO entries (key, value, origin) VALUES (?1, ?2, ?3) \
     ON CONFLICT(key) DO UPDATE SET value = excluded.value, origin = excluded.origin \
     WHERE entries.origin = 1 AND excluded.origin = 0";

/// Nothing here waits for another task.
fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("every future is ready at once"),
    }
}

fn open(path: &Path) -> Connection {
    done(Builder::new_local(path.to_str().unwrap()).build())
        .unwrap()
        .connect()
        .unwrap()
}

fn insert(connection: &Connection, key: &str, value: &[u8], origin: i64) -> u64 {
    done(connection.execute(INSERT, (key.as_bytes().to_vec(), value.to_vec(), origin))).unwrap()
}

fn get(connection: &Connection, key: &str) -> Option<Vec<u8>> {
    let query = connection.query(
        "SELECT value FROM entries WHERE key = ?1",
        (key.as_bytes().to_vec(),),
    );
    let mut rows = done(query).unwrap();
    done(rows.next()).unwrap().map(|row| row.get(0).unwrap())
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn the_count_of_changed_rows_says_who_won() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.db");
    let (first, second) = (open(&path), open(&path));
    done(first.execute(CREATE, ())).unwrap();
    assert_eq!(insert(&first, "key", b"imported", 1), 1);
    assert_eq!(
        insert(&second, "key", b"local", 0),
        1,
        "a local value replaces an imported one"
    );
    assert_eq!(
        insert(&first, "key", b"later", 0),
        0,
        "nothing else is replaced"
    );
    assert_eq!(get(&first, "key").unwrap(), b"local");
    assert_eq!(get(&first, "other"), None);
}

#[test]
fn a_transaction_is_stored_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.db");
    let mut writer = open(&path);
    done(writer.execute(CREATE, ())).unwrap();
    let dropped = done(writer.transaction_with_behavior(TransactionBehavior::Immediate)).unwrap();
    insert(&dropped, "a", b"1", 0);
    drop(dropped);
    assert_eq!(get(&writer, "a"), None);

    let kept = done(writer.transaction_with_behavior(TransactionBehavior::Immediate)).unwrap();
    insert(&kept, "b", b"2", 0);
    let mut other = open(&path);
    other.busy_timeout(Duration::ZERO).unwrap();
    let refused = done(other.transaction_with_behavior(TransactionBehavior::Immediate)).map(|_| ());
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    done(kept.commit()).unwrap();
    assert_eq!(get(&other, "b").unwrap(), b"2");
}

/// The log is folded into the file by the last that closes it.
#[test]
fn readers_see_the_log_and_nothing_is_left_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.db");
    let mut writer = open(&path);
    done(writer.execute(CREATE, ())).unwrap();
    insert(&writer, "key", b"value", 0);
    assert!(files(directory.path()) > 1, "a write-ahead log");
    let reader = open(&path);
    let held = done(writer.transaction_with_behavior(TransactionBehavior::Immediate)).unwrap();
    assert_eq!(
        get(&reader, "key").unwrap(),
        b"value",
        "a writer keeps no reader waiting"
    );
    drop(held);
    drop((writer, reader));
    assert_eq!(files(directory.path()), 1);
}

#[test]
fn read_only_reads_and_neither_writes_nor_makes_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.db");
    let read_only = || {
        done(
            Builder::new_local(path.to_str().unwrap())
                .read_only(true)
                .build(),
        )
    };
    assert!(read_only().is_err());
    assert_eq!(files(directory.path()), 0);

    let writer = open(&path);
    done(writer.execute(CREATE, ())).unwrap();
    insert(&writer, "key", b"value", 0);
    let reader = read_only().unwrap().connect().unwrap();
    assert_eq!(get(&reader, "key").unwrap(), b"value");
    assert!(done(reader.execute("DELETE FROM entries", ())).is_err());
}

#[test]
fn a_file_that_is_no_database_is_told_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.db");
    std::fs::write(&path, [7; 4096]).unwrap();
    let error = done(Builder::new_local(path.to_str().unwrap()).build()).unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

/// CubeCL tells a foreign database by these words.
#[test]
fn a_table_that_is_not_there_is_named_so() {
    let directory = tempfile::tempdir().unwrap();
    let connection = open(&directory.path().join("cache.db"));
    let error =
        done(connection.query("SELECT v FROM meta WHERE k = ?1", ("schema_version",))).unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
}

#[test]
fn pragmas_run_with_and_without_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let connection = open(&directory.path().join("cache.db"));
    done(connection.pragma_query("synchronous = NORMAL", |_| Ok(()))).unwrap();
    let mut busy = None;
    let checkpoint = connection.pragma_query("wal_checkpoint(TRUNCATE)", |row| {
        busy = Some(row.get::<i64>(0)?);
        Ok(())
    });
    done(checkpoint).unwrap();
    assert_eq!(busy, Some(0));
}
