//! The image that the instance starts from.

use aws_sdk_ec2::types::{Filter, Image, VirtualizationType};
use packer_core::aws::ec2::Ec2;
use packer_core::{Context, Error, Facts, Result, Value};

use crate::amazon::config::filter::ImageFilter;

/// An image, and what templates know of it.
#[derive(Debug, Clone)]
pub(in crate::amazon) struct Source {
    pub(in crate::amazon) id: String,
    pub(in crate::amazon) image: Image,
    /// `SourceAMI` and the like.
    pub(in crate::amazon) facts: Facts,
}

/// Finds the image.
pub(in crate::amazon) async fn find(
    cx: &Context,
    ec2: &Ec2,
    id: &str,
    filter: Option<&ImageFilter>,
) -> Result<Source> {
    let everything = ImageFilter::default();
    let filter = filter.unwrap_or(&everything);
    let image = one_of(images(ec2, id, filter).await?, filter)?;
    let id = image.image_id().unwrap_or_default().to_owned();
    cx.say(format!("Found Image ID: {id}"));
    let facts = facts(&image, ec2.region());
    Ok(Source { id, image, facts })
}

/// The images that a filter lets through.
pub(in crate::amazon) async fn images(ec2: &Ec2, id: &str, filter: &ImageFilter) -> Result<Vec<Image>> {
    let filters: Vec<Filter> = filter.filters.iter().map(|(name, values)| filter_of(name, values)).collect();
    let asked = ec2.ask("DescribeImages", |api| {
        let mut look = api.describe_images().set_filters((!filters.is_empty()).then(|| filters.clone()));
        if !id.is_empty() {
            look = look.image_ids(id);
        }
        for owner in &filter.owners {
            look = look.owners(owner);
        }
        look.include_deprecated(filter.include_deprecated).send()
    });
    let failed = |e| Error::from(e).context("Error querying AMI");
    Ok(asked.await.map_err(failed)?.images.unwrap_or_default())
}

/// A filter whose values are separated by commas, as a row of a CSV file.
pub(in crate::amazon) fn filter_of(name: &str, values: &str) -> Filter {
    Filter::builder().name(name).set_values(Some(row(values))).build()
}

/// The values of a row of CSV.
fn row(text: &str) -> Vec<String> {
    let (mut values, mut value, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => value.extend(characters.next()),
            '"' if quoted || value.is_empty() => quoted = !quoted,
            ',' if !quoted => values.push(std::mem::take(&mut value)),
            c => value.push(c),
        }
    }
    values.push(value);
    values
}

/// The only image, or the newest.
pub(in crate::amazon) fn one_of(mut images: Vec<Image>, filter: &ImageFilter) -> Result<Image> {
    if images.len() > 1 && !filter.most_recent {
        return Err(Error::user(
            "Your query returned more than one result. Please try a more specific search, or set most_recent to true.",
        ));
    }
    // Dates of one form: those that are later sort behind.
    images.sort_by(|a, b| a.creation_date().cmp(&b.creation_date()));
    images.pop().ok_or_else(|| {
        let filters: Vec<String> =
            filter.filters.iter().map(|(name, values)| format!("{name}={values}")).collect();
        let (filters, owners) = (filters.join(", "), filter.owners.join(", "));
        Error::user(format!("No AMI was found matching filters: {filters}; owners: {owners}"))
    })
}

/// What templates know of the source.
pub(in crate::amazon) fn facts(image: &Image, region: &str) -> Facts {
    let text = |text: Option<&str>| Value::from(text.unwrap_or_default());
    let tags = image.tags().iter().filter_map(|tag| Some((tag.key()?.to_owned(), text(tag.value()))));
    region_facts(region)
        .with("SourceAMI", text(image.image_id()))
        .with("SourceAMICreationDate", text(image.creation_date()))
        .with("SourceAMIName", text(image.name()))
        .with("SourceAMIOwner", text(image.owner_id()))
        .with("SourceAMIOwnerName", text(image.image_owner_alias()))
        .with("SourceAMITags", Value::object(tags))
}

/// What templates know where there is no source.
pub(in crate::amazon) fn region_facts(region: &str) -> Facts {
    Facts::new().with("BuildRegion", region)
}

/// Fast networking is there for machines that are virtual in hardware alone.
pub(in crate::amazon) fn check_networking(source: &Source, enhanced: bool) -> Result<()> {
    if enhanced && source.image.virtualization_type() != Some(&VirtualizationType::Hvm) {
        let message = format!("Cannot enable enhanced networking, source AMI '{}' is not HVM", source.id);
        return Err(Error::user(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_a_row_of_csv() {
        assert_eq!(super::row("a"), ["a"]);
        assert_eq!(super::row("a,b c,"), ["a", "b c", ""]);
        assert_eq!(super::row(r#""a,b","c ""d""""#), ["a,b", r#"c "d""#]);
    }
}
