//! Single values: one getter per type.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use vlft_base::format::grouped;
use vlft_base::one_of;

use super::{Bound, Choice, Section, Shape, names_of};
use crate::config::source::{Kind, Value};

impl Section<'_> {
    pub(in crate::config) fn required_path(
        &mut self,
        key: &'static str,
        about: &'static str,
    ) -> PathBuf {
        match self.known(key, about, Shape::Text, true) {
            Some(value) => self.path(key, value),
            None => {
                self.missing(key, "a path");
                PathBuf::new()
            }
        }
    }

    pub(in crate::config) fn optional_path(
        &mut self,
        key: &'static str,
        about: &'static str,
    ) -> Option<PathBuf> {
        let value = self.known(key, about, Shape::Text, false)?;
        Some(self.path(key, value))
    }

    pub(in crate::config) fn required_choice<C: Choice>(
        &mut self,
        key: &'static str,
        about: &'static str,
    ) -> C {
        let fallback = C::ALL[0].1;
        match self.known(key, about, Shape::Choice(names_of::<C>()), true) {
            Some(value) => self.pick(key, value).unwrap_or(fallback),
            None => {
                self.missing(key, &one_of(names_of::<C>()));
                fallback
            }
        }
    }

    pub(in crate::config) fn optional_choice<C: Choice>(
        &mut self,
        key: &'static str,
        about: &'static str,
    ) -> Option<C> {
        let value = self.known(key, about, Shape::Choice(names_of::<C>()), false)?;
        self.pick(key, value)
    }

    pub(in crate::config) fn choice<C: Choice>(
        &mut self,
        key: &'static str,
        default: C,
        about: &'static str,
    ) -> C {
        self.optional_choice(key, about).unwrap_or(default)
    }

    pub(in crate::config) fn boolean(
        &mut self,
        key: &'static str,
        default: bool,
        about: &'static str,
    ) -> bool {
        match self.known(key, about, Shape::Boolean, false) {
            None => default,
            Some(Value {
                kind: Kind::Boolean(value),
                ..
            }) => value,
            Some(other) => {
                self.wrong_type(key, "`true` or `false`", &other);
                default
            }
        }
    }

    pub(in crate::config) fn count(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        about: &'static str,
    ) -> u64 {
        self.optional_count(key, range, about).unwrap_or(default)
    }

    pub(in crate::config) fn optional_count(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        about: &'static str,
    ) -> Option<u64> {
        let value = self.known(key, about, Shape::Integer(range.clone()), false)?;
        let Kind::Integer(integer) = value.kind else {
            self.wrong_type(key, "an integer", &value);
            return None;
        };
        match u64::try_from(integer) {
            Ok(count) if range.contains(&count) => Some(count),
            _ => {
                let (least, most) = (range.start(), range.end());
                let expected = match *most {
                    u64::MAX => format!("at least {least}"),
                    most => format!("{least} to {}", grouped(most)),
                };
                self.out_of_range(key, &expected, &value);
                None
            }
        }
    }

    pub(in crate::config) fn size(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<u64>,
        about: &'static str,
    ) -> usize {
        self.optional_size(key, range, about).unwrap_or(default)
    }

    pub(in crate::config) fn optional_size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        about: &'static str,
    ) -> Option<usize> {
        let count = self.optional_count(key, range, about)?;
        // Only a 32-bit machine could refuse a number here; saturating keeps "far too large".
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(in crate::config) fn optional_number(
        &mut self,
        key: &'static str,
        bound: Bound,
        about: &'static str,
    ) -> Option<f64> {
        let value = self.known(key, about, Shape::Number(bound), false)?;
        self.bounded(key, &value, bound)
    }

    pub(in crate::config) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        bound: Bound,
        about: &'static str,
    ) -> f64 {
        match self.known(key, about, Shape::Number(bound), false) {
            None => default,
            Some(value) => self.bounded(key, &value, bound).unwrap_or(default),
        }
    }
}
