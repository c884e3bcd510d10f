//! Texts of the template, by path (`http_content`).

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::StatusCode;

use super::answer::{Answer, of_bytes, wrong};
use super::sniff;
use crate::diagnostic::did_you_mean;

/// What is served under each path.
#[derive(Debug)]
pub(super) struct Texts(BTreeMap<String, Bytes>);

impl Texts {
    pub(super) fn new(texts: &BTreeMap<String, String>) -> Self {
        Self(texts.iter().map(|(path, text)| (path.clone(), Bytes::from(text.clone()))).collect())
    }

    /// The answer for a path that is decoded and cleaned.
    pub(super) fn answer(&self, path: &str) -> Answer {
        match self.0.get(path) {
            Some(text) => of_bytes(StatusCode::OK, sniff::by_content(text), text.clone()),
            None => {
                let meant = did_you_mean(path, self.0.keys().map(String::as_str));
                let meant = meant.map_or_else(String::new, |meant| format!(" Did you mean {meant:?}?"));
                wrong(StatusCode::NOT_FOUND, &format!("{path} not found.{meant}"))
            }
        }
    }
}
