//! The data source `amazon-ami`: an image that filters find.

use packer_core::aws::AccessConfig;
use packer_core::aws::ec2::Ec2;
use packer_core::{
    Context, DataSource, Diagnostic, Diagnostics, PrepareContext, Result, Type, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amazon::config::filter::ImageFilter;
use crate::amazon::steps::source;

/// Finds an image and gives its `id`, `name`, `creation_date`, `owner`, `owner_name` and `tags`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonAmi {
    /// Which image.
    #[serde(flatten)]
    pub filter: ImageFilter,
    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
}

#[async_trait]
impl DataSource for AmazonAmi {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = self.access.check(cx);
        if self.filter.owners.is_empty() {
            found.push(Diagnostic::error("For security reasons, you must declare an owner."));
        }
        found
    }

    fn output_type(&self) -> Type {
        let texts = ["id", "name", "creation_date", "owner", "owner_name"].map(|name| (name, Type::String));
        Type::object(texts.into_iter().chain([("tags", Type::map(Type::String))]))
    }

    async fn read(&self, cx: &Context) -> Result<Value> {
        let ec2 = Ec2::enter(cx, &self.access).await?;
        let asked = async { source::images(&ec2, "", &self.filter).await };
        let images = cx.until_cancelled(asked).await?;
        let image = source::one_of(images, &self.filter)?;
        let text = |text: Option<&str>| Value::from(text.unwrap_or_default());
        let tags = image.tags().iter().filter_map(|tag| Some((tag.key()?.to_owned(), text(tag.value()))));
        Ok(Value::object([
            ("id", text(image.image_id())),
            ("name", text(image.name())),
            ("creation_date", text(image.creation_date())),
            ("owner", text(image.owner_id())),
            ("owner_name", text(image.image_owner_alias())),
            ("tags", Value::map(Type::String, tags)),
        ]))
    }
}
