//! What components leave in an engine, and how it goes again.
//!
//! Three kinds of resources: a `container`; an `image` that is known by a name of ours until its id is in the details;
//! and a `tag`, a name of the user's choice that goes only as long as it leads to our image.

use std::time::Duration;

use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptionsBuilder};
use serde_json::json;

use super::client::Client;
use crate::context::Context;
use crate::error::{Error, Fault, Result};
use crate::ledger::Resource;

/// How long something may come into being after the process that asked for it has died.
const LATE: Duration = Duration::from_secs(2);

/// An image that does not exist yet, by a name that is ours alone.
pub fn image_name(purpose: &str) -> String {
    format!("packer-{purpose}:{}", uuid::Uuid::new_v4().simple())
}

fn detail<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    resource.details.get(name).and_then(|value| value.as_str())
}

impl Client {
    /// A container by its name, and its id once that is known. It counts as ours only where it mounts `folder`, which
    /// nobody else knows: a name that the user chose may be somebody else's.
    pub fn container_resource(&self, name: &str, id: Option<&str>, folder: &str) -> Resource {
        Resource::new("container", name).with_details(self.details(json!({ "mounts": folder, "id": id })))
    }

    /// An image by a name that is ours alone, and its id once that is known. `more` is what else its maker wants to know.
    pub fn image_resource(&self, name: &str, id: Option<&str>, more: serde_json::Value) -> Resource {
        let mut details = self.details(more);
        details["id"] = id.into();
        Resource::new("image", name).with_details(details)
    }

    /// A name that the user wants for the image of this id.
    pub fn tag_resource(&self, name: &str, id: &str) -> Resource {
        Resource::new("tag", name).with_details(self.details(json!({ "id": id })))
    }

    /// What a later process needs to find the engine again.
    fn details(&self, mut details: serde_json::Value) -> serde_json::Value {
        details["engine"] = self.address().into();
        if let Some(folder) = self.certificates() {
            details["certificates"] = folder.to_string_lossy().into();
        }
        details
    }

    /// Removes a resource of a Docker component's from the engine in which it was made. What is gone is no error.
    ///
    /// # Errors
    /// See [`release`](Self::release); where the engine cannot be reached.
    pub async fn release_resource(cx: &Context, resource: &Resource) -> Result<()> {
        let client = match detail(resource, "engine") {
            Some(address) => Self::connect_to(cx.host(), address, detail(resource, "certificates")).await?,
            None => Self::connect(cx.host()).await?,
        };
        client.release(cx, resource).await
    }

    /// Removes a resource that one of the three above stands for. What is gone is no error.
    ///
    /// # Errors
    /// Where it exists and cannot be removed; where it is of another kind.
    pub async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        let unsure = resource.kind != "tag" && detail(resource, "id").is_none();
        if unsure {
            // Whoever asked for it did not hear the answer; the engine may still be at it.
            let end = tokio::time::Instant::now() + LATE;
            while !self.exists(resource).await? && tokio::time::Instant::now() < end {
                tokio::time::sleep(LATE / 20).await;
            }
        }
        match resource.kind.as_str() {
            "container" => self.release_container(cx, resource).await,
            "image" => {
                if !resource.name.is_empty() {
                    self.remove_image(&resource.name).await?;
                }
                match detail(resource, "id") {
                    Some(id) => match self.remove_image(id).await {
                        // Its name is gone. Other images lie on it, and with the last of them the engine removes it.
                        Err(e) if e.message().contains("dependent child images") => Ok(()),
                        result => result,
                    },
                    None => Ok(()),
                }
            }
            "tag" => {
                let Some(id) = detail(resource, "id") else { return Ok(()) };
                match self.image(&resource.name).await? {
                    Some(found) if found.id.as_deref() == Some(id) => self.remove_image(&resource.name).await,
                    _ => Ok(()),
                }
            }
            _ => Err(Error::internal(format!("nothing is known about how to release {resource}"))),
        }
    }

    async fn exists(&self, resource: &Resource) -> Result<bool> {
        if resource.kind != "container" {
            return Ok(self.image(&resource.name).await?.is_some());
        }
        let found = self.api().inspect_container(&resource.name, None::<InspectContainerOptions>);
        Ok(self.find(format!("look for the container {}", resource.name), found).await?.is_some())
    }

    async fn release_container(&self, cx: &Context, resource: &Resource) -> Result<()> {
        let what = format!("remove the container {}", resource.name);
        let found = self.api().inspect_container(&resource.name, None::<InspectContainerOptions>);
        let Some(found) = self.find(&what, found).await? else { return Ok(()) };
        let folder = detail(resource, "mounts").unwrap_or_default();
        let mounts = found.mounts.iter().flatten().any(|mount| mount.source.as_deref() == Some(folder));
        let binds = found.host_config.iter().flat_map(|h| h.binds.iter().flatten());
        let bound = binds.into_iter().any(|bind| {
            bind.strip_prefix(folder).is_some_and(|rest| !folder.is_empty() && rest.starts_with(':'))
        });
        if !mounts && !bound {
            return Ok(()); // somebody else's: the engine refused to give us the name
        }
        let id = found.id.unwrap_or_else(|| resource.name.clone());
        cx.say(format!("Killing the container: {id}"));
        // Volumes without a name came with the container and go with it.
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.find(&what, self.api().remove_container(&id, Some(options))).await {
            // It is on its way already, for instance because it was started with `--rm`.
            Err(e) if e.fault() == Fault::Provider && e.message().contains("already in progress") => Ok(()),
            result => result.map(drop),
        }
    }
}
