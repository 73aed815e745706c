//! Formats whose texts say `<image>` where an image stands, with the images in a list beside. There is
//! no way to say `<image>` as words in them.

use crate::rules::{IMAGE_COUNT, IMAGE_TAG_TEXT};
use crate::sample::{Image, Piece, Refusal, Turn, normal};

pub(crate) const IMAGE: &str = "<image>";
/// The loaders read these as media too.
const OTHERS: [&str; 2] = ["<video>", "<audio>"];

/// A turn's content before its images are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    /// `<image>`: the next one of the list.
    Next,
    /// An image that is given where it stands.
    Image(Image),
}

/// Text and the places of images in it, in order.
pub(crate) fn split(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, piece) in text.split(IMAGE).enumerate() {
        if i > 0 {
            parts.push(Part::Next);
        }
        if !piece.is_empty() {
            parts.push(Part::Text(piece.to_owned()));
        }
    }
    parts
}

/// The turn as one text. Refused when reading it again would not give the same turn.
pub(crate) fn join(turn: &Turn) -> Result<String, Refusal> {
    let mut text = String::new();
    for piece in &turn.content {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Image(_) => text.push_str(IMAGE),
        }
    }
    let expected: Vec<Part> = normal(turn.content.clone())
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => Part::Text(text),
            Piece::Image(_) => Part::Next,
        })
        .collect();
    let other = OTHERS.iter().find(|tag| text.contains(**tag));
    match other {
        Some(tag) => Err(as_words(turn, tag)),
        None if split(&text) != expected => Err(as_words(turn, IMAGE)),
        None => Ok(text),
    }
}

fn as_words(turn: &Turn, tag: &str) -> Refusal {
    let role = turn.role.as_str();
    Refusal::new(
        IMAGE_TAG_TEXT,
        format!("a text of the {role} holds `{tag}` as words; this format would read it as media"),
    )
}

/// What to do when there are more images than `<image>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    Refuse,
    /// They stand before the first text of the first user turn.
    First,
}

/// Puts the images where their tags are. `turns`: whether the turn is the user's, and its parts.
pub(crate) fn fill(
    turns: Vec<(bool, Vec<Part>)>,
    images: Vec<Image>,
    untold: Untold,
) -> Result<Vec<Vec<Piece>>, Refusal> {
    let is_next = |part: &&Part| matches!(part, Part::Next);
    let tags = turns.iter().flat_map(|(_, parts)| parts).filter(is_next);
    let (tags, given) = (tags.count(), images.len());
    if tags > given || (tags < given && untold == Untold::Refuse) {
        return Err(Refusal::new(
            IMAGE_COUNT,
            format!("{tags} `{IMAGE}` in the texts, {given} in the list of images"),
        ));
    }
    let mut images = images.into_iter();
    let mut before: Vec<Piece> = images
        .by_ref()
        .take(given - tags)
        .map(Piece::Image)
        .collect();
    if !before.is_empty() && !turns.iter().any(|(is_user, _)| *is_user) {
        let reason = "images and no user turn to show them in";
        return Err(Refusal::new(IMAGE_COUNT, reason));
    }
    let mut filled = Vec::with_capacity(turns.len());
    for (is_user, parts) in turns {
        let mut content = match is_user {
            true => std::mem::take(&mut before),
            false => Vec::new(),
        };
        for part in parts {
            content.push(match part {
                Part::Text(text) => Piece::Text(text),
                Part::Image(image) => Piece::Image(image),
                Part::Next => Piece::Image(images.next().expect("tags and images were counted")),
            });
        }
        filled.push(content);
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlft_dataset::record::Role;

    fn image(name: &str) -> Piece {
        Piece::Image(Image::Path(name.to_owned()))
    }

    fn words(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn tags_stand_where_the_images_do() {
        let turn = Turn::new(
            Role::User,
            vec![words("a "), image("1"), image("2"), words("b"), words("c")],
        );
        let text = join(&turn).unwrap();
        assert_eq!(text, "a <image><image>bc");
        let images = vec![Image::Path("1".into()), Image::Path("2".into())];
        let turns = vec![(true, split(&text))];
        let back = fill(turns.clone(), images.clone(), Untold::Refuse).unwrap();
        assert_eq!(back, [normal(turn.content)]);
        assert_eq!(
            fill(turns.clone(), images[..1].to_vec(), Untold::First)
                .unwrap_err()
                .rule,
            IMAGE_COUNT
        );
        let more = [images, vec![Image::Path("3".into())]].concat();
        assert!(fill(turns.clone(), more.clone(), Untold::Refuse).is_err());
        let back = fill(turns, more, Untold::First).unwrap();
        assert_eq!(back[0][..3], [image("1"), words("a "), image("2")]);
    }

    #[test]
    fn words_never_become_images() {
        for content in [
            vec![words("see <image>")],
            vec![words("<ima"), words("ge>")],
            vec![words("<image"), words(">"), image("1")],
            vec![words("a <video> b")],
        ] {
            let refused = join(&Turn::new(Role::User, content)).unwrap_err();
            assert_eq!(refused.rule, IMAGE_TAG_TEXT);
        }
        // Nearly a tag is none.
        let near = Turn::new(
            Role::User,
            vec![words("<image "), image("1"), words("image>")],
        );
        assert_eq!(join(&near).unwrap(), "<image <image>image>");
        let nested = Turn::new(Role::User, vec![words("<image"), image("1"), words(">")]);
        assert_eq!(join(&nested).unwrap(), "<image<image>>");
    }
}
