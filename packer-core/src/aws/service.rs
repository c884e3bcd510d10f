//! The services that are asked: what they are called, and where they are.

/// A service of AWS.
///
/// ```
/// use packer_core::aws::Service;
/// assert_eq!(Service::SSM.name, "SSM");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Its name in messages.
    pub name: &'static str,
    /// What signatures call it.
    pub signing: &'static str,
    /// The first part of its address.
    pub host: &'static str,
    /// The variable that names another address. Behind `AWS_ENDPOINT_URL_` it is also the name, in small letters, by which the
    /// section `services` of AWS's file knows it.
    pub variable: &'static str,
    /// What stands before the operation in the header `X-Amz-Target` where it speaks JSON, else the version of its API.
    pub api: &'static str,
}

impl Service {
    /// Machines.
    pub const EC2: Self = Self::of("EC2", "ec2", "ec2", "AWS_ENDPOINT_URL_EC2", "2016-11-15");
    /// Who may do what.
    pub const IAM: Self = Self::of("IAM", "iam", "iam", "AWS_ENDPOINT_URL_IAM", "2010-05-08");
    /// Temporary credentials.
    pub const STS: Self = Self::of("STS", "sts", "sts", "AWS_ENDPOINT_URL_STS", "2011-06-15");
    /// Parameters, and sessions with machines.
    pub const SSM: Self = Self::of("SSM", "ssm", "ssm", "AWS_ENDPOINT_URL_SSM", "AmazonSSM");
    /// Secrets.
    pub const SECRETS_MANAGER: Self = Self::of(
        "Secrets Manager",
        "secretsmanager",
        "secretsmanager",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        "secretsmanager",
    );
    /// Keys that never leave AWS.
    pub const KMS: Self = Self::of("KMS", "kms", "kms", "AWS_ENDPOINT_URL_KMS", "TrentService");
    /// Container images.
    pub const ECR: Self =
        Self::of("ECR", "ecr", "api.ecr", "AWS_ENDPOINT_URL_ECR", "AmazonEC2ContainerRegistry_V20150921");
    /// Container images for everybody.
    pub const ECR_PUBLIC: Self = Self::of(
        "ECR PUBLIC",
        "ecr-public",
        "api.ecr-public",
        "AWS_ENDPOINT_URL_ECR_PUBLIC",
        "SpencerFrontendService",
    );
    /// Single sign-on: what somebody may do.
    pub(super) const SSO: Self =
        Self::of("SSO", "awsssoportal", "portal.sso", "AWS_ENDPOINT_URL_SSO", "2019-06-10");
    /// Single sign-on: who somebody is.
    pub(super) const SSO_OIDC: Self =
        Self::of("SSO OIDC", "sso-oauth", "oidc", "AWS_ENDPOINT_URL_SSO_OIDC", "2019-06-10");
    /// Files.
    pub const S3: Self = Self::of("S3", "s3", "s3", "AWS_ENDPOINT_URL_S3", "2006-03-01");

    const fn of(
        name: &'static str,
        signing: &'static str,
        host: &'static str,
        variable: &'static str,
        api: &'static str,
    ) -> Self {
        Self { name, signing, host, variable, api }
    }

    /// Where Amazon has it.
    pub(super) fn address(&self, region: &str, fips: bool) -> String {
        if fips && *self == Self::ECR {
            return format!("https://ecr-fips.{region}.{}", domain(region));
        }
        let has_fips = *self != Self::ECR_PUBLIC && *self != Self::SSO && *self != Self::SSO_OIDC;
        let fips = if fips && has_fips { "-fips" } else { "" };
        if *self == Self::IAM {
            // It is one for all regions of a part of AWS.
            return match region {
                _ if region.starts_with("cn-") => "https://iam.cn-north-1.amazonaws.com.cn".to_owned(),
                _ if region.starts_with("us-gov-") => "https://iam.us-gov.amazonaws.com".to_owned(),
                _ if domain(region) == "amazonaws.com" => format!("https://iam{fips}.amazonaws.com"),
                _ => format!("https://iam.{region}.{}", domain(region)),
            };
        }
        format!("https://{}{fips}.{region}.{}", self.host, domain(region))
    }

    /// Which region its signatures name.
    pub(super) fn signing_region<'a>(&self, region: &'a str) -> &'a str {
        match region {
            _ if *self != Self::IAM => region,
            _ if region.starts_with("cn-") => "cn-north-1",
            _ if region.starts_with("us-gov-") => "us-gov-west-1",
            _ if domain(region) == "amazonaws.com" => "us-east-1",
            _ => region,
        }
    }
}

/// The domain of a region.
pub(super) fn domain(region: &str) -> &'static str {
    let part = |name: &str| region.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    match region {
        _ if part("cn") => "amazonaws.com.cn",
        _ if part("us-iso") => "c2s.ic.gov",
        _ if part("us-isob") => "sc2s.sgov.gov",
        _ if part("eu-isoe") => "cloud.adc-e.uk",
        _ if part("us-isof") => "csp.hci.ic.gov",
        _ if part("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

/// Whether a text can be the name of a region: it becomes a part of addresses.
pub(super) fn is_region(text: &str) -> bool {
    !text.is_empty() && text.len() < 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (service, region, fips, expected) in [
            (Service::SSM, "eu-west-1", false, "https://ssm.eu-west-1.amazonaws.com"),
            (
                Service::SECRETS_MANAGER,
                "us-east-1",
                true,
                "https://secretsmanager-fips.us-east-1.amazonaws.com",
            ),
            (Service::ECR, "us-west-2", true, "https://ecr-fips.us-west-2.amazonaws.com"),
            (Service::ECR, "cn-north-1", false, "https://api.ecr.cn-north-1.amazonaws.com.cn"),
            (Service::STS, "us-isob-east-1", false, "https://sts.us-isob-east-1.sc2s.sgov.gov"),
            (Service::IAM, "ap-south-1", false, "https://iam.amazonaws.com"),
            (Service::IAM, "us-gov-east-1", false, "https://iam.us-gov.amazonaws.com"),
        ] {
            assert_eq!(service.address(region, fips), expected);
        }
        assert_eq!(Service::IAM.signing_region("ap-south-1"), "us-east-1");
        assert_eq!(Service::S3.signing_region("ap-south-1"), "ap-south-1");
        assert!(is_region("us-gov-west-1") && !is_region("x.evil.com/") && !is_region(""));
    }
}
