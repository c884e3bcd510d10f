//! What is said of an image that is there: its description, who may use it, tags.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::modify_image_attribute::builders::ModifyImageAttributeFluentBuilder as Call;
use aws_sdk_ec2::types::{
    AttributeValue, LaunchPermission, LaunchPermissionModifications, PermissionGroup, Tag,
};

use super::{Ec2, Refused, once_known};
use crate::context::Context;

/// Attributes of an image. What is empty is not set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// Its description.
    pub description: &'a str,
    /// Groups that may start instances of it.
    pub groups: &'a [String],
    /// Accounts that may.
    pub users: &'a [String],
    /// ARNs of organizations that may.
    pub org_arns: &'a [String],
    /// ARNs of organizational units that may.
    pub ou_arns: &'a [String],
    /// Product codes.
    pub product_codes: &'a [String],
    /// The version of the metadata service that instances of it answer.
    pub imds_support: &'a str,
}

/// One attribute: what it is called, and the call that sets it.
type Change<'a> = (&'static str, Box<dyn Fn(Call) -> Call + Send + Sync + 'a>);

impl<'a> Attributes<'a> {
    /// Sets them, one after the other; `tell` is given the name of each before.
    ///
    /// # Errors
    /// Where EC2 refuses.
    pub async fn set(self, cx: &Context, ec2: &Ec2, image: &str, tell: impl Fn(&str)) -> Result<(), Refused> {
        for (name, change) in self.changes() {
            tell(name);
            let call = |api: &Client| change(api.modify_image_attribute().image_id(image)).send();
            once_known(cx, || ec2.ask("ModifyImageAttribute", call)).await?;
        }
        Ok(())
    }

    /// Whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        self.changes().is_empty()
    }

    fn changes(self) -> Vec<Change<'a>> {
        let mut changes: Vec<Change<'a>> = Vec::new();
        let value = |text: &str| AttributeValue::builder().value(text).build();
        if !self.description.is_empty() {
            let description = value(self.description);
            changes.push(("description", Box::new(move |call| call.description(description.clone()))));
        }
        let mut permit = |name,
                          to: &'a [String],
                          one: fn(&String) -> LaunchPermission,
                          list: fn(Call, Vec<String>) -> Call| {
            if !to.is_empty() {
                let added = LaunchPermissionModifications::builder();
                let added = added.set_add(Some(to.iter().map(one).collect())).build();
                let change = move |call: Call| list(call.launch_permission(added.clone()), to.to_vec());
                changes.push((name, Box::new(change)));
            }
        };
        let group =
            |name: &String| LaunchPermission::builder().group(PermissionGroup::from(name.as_str())).build();
        permit("groups", self.groups, group, |call, list| call.set_user_groups(Some(list)));
        let user = |id: &String| LaunchPermission::builder().user_id(id).build();
        permit("users", self.users, user, |call, list| call.set_user_ids(Some(list)));
        let organization = |arn: &String| LaunchPermission::builder().organization_arn(arn).build();
        permit("ami org arns", self.org_arns, organization, |call, list| {
            call.set_organization_arns(Some(list))
        });
        let unit = |arn: &String| LaunchPermission::builder().organizational_unit_arn(arn).build();
        permit("ami ou arns", self.ou_arns, unit, |call, list| call.set_organizational_unit_arns(Some(list)));
        if !self.product_codes.is_empty() {
            let codes = self.product_codes;
            changes
                .push(("product codes", Box::new(move |call| call.set_product_codes(Some(codes.to_vec())))));
        }
        if !self.imds_support.is_empty() {
            let version = value(self.imds_support);
            changes.push(("imds_support", Box::new(move |call| call.imds_support(version.clone()))));
        }
        changes
    }
}

/// Gives tags to things that may have just been made.
///
/// # Errors
/// Where EC2 refuses.
pub async fn create_tags(cx: &Context, ec2: &Ec2, ids: &[String], tags: &[Tag]) -> Result<(), Refused> {
    let call = |api: &Client| {
        api.create_tags().set_resources(Some(ids.to_vec())).set_tags(Some(tags.to_vec())).send()
    };
    once_known(cx, || ec2.ask("CreateTags", call)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_not_set() {
        assert!(Attributes::default().is_empty());
        let users = ["111122223333".to_owned()];
        let some =
            Attributes { description: "d", users: &users, imds_support: "v2.0", ..Attributes::default() };
        let names: Vec<_> = some.changes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["description", "users", "imds_support"]);
    }
}
