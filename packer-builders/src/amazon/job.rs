//! What the steps of a build work with: the account, the options of the run, and how what they make is written down.

use packer_core::aws::AccessConfig;
use packer_core::aws::ec2::{Ec2, Pace};
use packer_core::{Context, Error, Facts, Resource, Result, Value, config, kit};
use serde_json::Value as Json;
use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

use super::config::run::RunConfig;
use super::config::tags::Tags;

/// A build at work.
pub(super) struct Job<'a> {
    pub(super) cx: &'a Context,
    /// The region of the build.
    pub(super) ec2: Ec2,
    pub(super) access: &'a AccessConfig,
    pub(super) run: &'a RunConfig,
}

impl<'a> Job<'a> {
    pub(super) async fn begin(cx: &'a Context, access: &'a AccessConfig, run: &'a RunConfig) -> Result<Self> {
        Ok(Self { cx, ec2: Ec2::enter(cx, access).await?, access, run })
    }

    /// A step whose failure people are told at once.
    pub(super) async fn step<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = self.cx.step(name, Box::pin(work)).await;
        if let Err(error) = &done
            && !error.is_cancelled()
        {
            self.cx.say_error(error.to_string());
        }
        done
    }

    /// Something that is made in a region, by the name or the client token that the call which makes it gives it.
    pub(super) fn resource(&self, kind: &str, name: &str, ec2: &Ec2, mut details: Json) -> Resource {
        details["region"] = ec2.region().into();
        Resource::new(kind, name)
            .with_details(details)
            .with_config(self.access.for_recovery(self.ec2.region()))
    }

    /// How a wait of at most so long looks.
    pub(super) fn pace(&self, limit: Duration) -> Pace {
        Pace::new(&self.ec2.session().polling(), limit)
    }

    /// Tags with what is known of the source in them, told as they are.
    pub(super) fn tags(&self, tags: &Tags, facts: &Facts) -> Result<Vec<Tag>> {
        let tags = rendered(self.cx, tags, facts)?;
        self.tell(&tags);
        Ok(tags)
    }

    /// Tells tags.
    pub(super) fn tell(&self, tags: &[Tag]) {
        for tag in tags {
            let text = |text: Option<&str>| format!("{:?}", text.unwrap_or_default());
            self.cx.say(format!("Adding tag: {}: {}", text(tag.key()), text(tag.value())));
        }
    }
}

/// Tags with what is known of the source in them.
pub(super) fn rendered(cx: &Context, tags: &Tags, facts: &Facts) -> Result<Vec<Tag>> {
    let text = |key: &str, value: &str, text: &str| {
        kit::render_facts(cx, text, facts)
            .map_err(|e| Error::user(format!("Error processing tag: {key}:{value} - {e}")))
    };
    let tag = |(key, value): (&String, &config::GoTemplate)| {
        let value = value.as_str();
        Ok(Tag::builder().key(text(key, value, key)?).value(text(key, value, value)?).build())
    };
    tags.iter().map(tag).collect()
}

/// Tags for what a call makes; none where there are none.
pub(super) fn specification(kind: ResourceType, tags: &[Tag]) -> Option<TagSpecification> {
    let all = TagSpecification::builder().resource_type(kind).set_tags(Some(tags.to_vec()));
    (!tags.is_empty()).then(|| all.build())
}

/// What post-processors are to know of the machine: all that is no secret.
pub(super) fn open_facts(facts: &Facts) -> impl Iterator<Item = (String, Json)> + '_ {
    facts
        .iter()
        .filter(|(_, value): &(&String, &Value)| !value.is_sensitive())
        .filter_map(|(name, value)| Some((name.clone(), value.to_json().ok()?)))
}
