//! The schemas: people, groups, and those that describe them (RFC 7643, 4, 5 to 8).
//!
//! Of people, what an organisation's directory usually sends. Not taken: `password` (who comes in proves it to us),
//! `entitlements` and `x509Certificates` (rights and keys are not given by another system); `roles` are shown, not taken.

use crate::schema::{Attribute, Kind, Schema};

/// Parts of an attribute that has several values of a kind (RFC 7643, 2.4).
macro_rules! several {
    ($name:literal, $value:expr, $types:expr, $description:literal) => {
        Attribute::complex(
            $name,
            &[
                $value,
                Attribute::text("display", "How it is shown."),
                Attribute::text("type", "What it is for.").usual($types),
                Attribute::flag("primary", "Whether it is the first choice; at most one is."),
            ],
            $description,
        )
        .many()
    };
}

const ENTERPRISE_SCHEMA: Schema = Schema {
    id: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    name: "EnterpriseUser",
    description: "What an organisation knows of its people.",
    attributes: &[
        Attribute::text("employeeNumber", "The number that the organisation gave."),
        Attribute::text("costCenter", "The cost centre."),
        Attribute::text("organization", "The organisation."),
        Attribute::text("division", "The division."),
        Attribute::text("department", "The department."),
        Attribute::complex(
            "manager",
            &[
                Attribute::text("value", "The manager's id.").exact(),
                Attribute::reference("$ref", &["User"], "Where the manager is."),
            ],
            "Who leads them.",
        ),
    ],
};

const USER_SCHEMA: Schema = Schema {
    id: "urn:ietf:params:scim:schemas:core:2.0:User",
    name: "User",
    description: "A person.",
    attributes: &[
        Attribute::text(
            "userName",
            "The name in policies, records and logins: at most 112 letters, digits and `. _ - : / @ +`. Whoever left keeps it.",
        )
        .required()
        .unique(),
        Attribute::complex(
            "name",
            &[
                Attribute::text("formatted", "The whole name, as it is shown."),
                Attribute::text("familyName", "The family name."),
                Attribute::text("givenName", "The given name."),
                Attribute::text("middleName", "Middle names."),
                Attribute::text("honorificPrefix", "What stands before, such as a title."),
                Attribute::text("honorificSuffix", "What stands after."),
            ],
            "The name of the person.",
        ),
        Attribute::text("displayName", "The name for people to see."),
        Attribute::text("nickName", "What others call them."),
        Attribute::reference("profileUrl", &["external"], "Where they introduce themselves."),
        Attribute::text("title", "What they are."),
        Attribute::text("userType", "How they belong to the organisation."),
        Attribute::text("preferredLanguage", "The language they want to read."),
        Attribute::text("locale", "How numbers and dates are written for them."),
        Attribute::text("timezone", "Where their clock is."),
        Attribute::flag(
            "active",
            "Whether they may come in. `false` ends everything issued to them at once; `true` does not lift what an administrator disabled.",
        ),
        several!(
            "emails",
            Attribute::text("value", "The address."),
            &["work", "home", "other"],
            "Addresses of electronic mail."
        ),
        several!(
            "phoneNumbers",
            Attribute::text("value", "The number."),
            &["work", "home", "mobile", "fax", "pager", "other"],
            "Telephone numbers."
        ),
        several!("ims", Attribute::text("value", "The address."), &[], "Addresses of instant messaging."),
        several!(
            "photos",
            Attribute::reference("value", &["external"], "Where the picture is."),
            &["photo", "thumbnail"],
            "Pictures."
        ),
        Attribute::complex(
            "addresses",
            &[
                Attribute::text("formatted", "The whole address."),
                Attribute::text("streetAddress", "Street and number."),
                Attribute::text("locality", "The town."),
                Attribute::text("region", "The region."),
                Attribute::text("postalCode", "The postal code."),
                Attribute::text("country", "The country."),
                Attribute::text("type", "What it is for.").usual(&["work", "home", "other"]),
                Attribute::flag("primary", "Whether it is the first choice; at most one is."),
            ],
            "Postal addresses.",
        )
        .many(),
        Attribute::complex(
            "groups",
            &[
                Attribute::text("value", "The group's id.").exact().ours(),
                Attribute::reference("$ref", &["Group"], "Where the group is.").ours(),
                Attribute::text("display", "The group's name.").ours(),
                Attribute::text("type", "How they belong to it.").usual(&["direct"]).ours(),
            ],
            "Groups they belong to; changed at the groups.",
        )
        .many()
        .ours(),
        Attribute::complex(
            "roles",
            &[Attribute::text("value", "The role's name.").ours()],
            "Roles they hold; given by administrators alone.",
        )
        .many()
        .ours(),
    ],
};

const GROUP_SCHEMA: Schema = Schema {
    id: "urn:ietf:params:scim:schemas:core:2.0:Group",
    name: "Group",
    description: "A group of people and groups.",
    attributes: &[
        Attribute::text(
            "displayName",
            "The name for people to see; the name in policies is made of the first one.",
        )
        .required(),
        Attribute::complex(
            "members",
            &[
                Attribute::text("value", "The member's id.").exact().immutable(),
                Attribute::reference("$ref", &["User", "Group"], "Where the member is.").immutable(),
                Attribute::text("type", "What the member is.").usual(&["User", "Group"]).immutable(),
            ],
            "Who belongs to it.",
        )
        .many(),
    ],
};

/// People.
pub const USER: Kind = Kind {
    name: "User",
    endpoint: "/Users",
    description: "A person.",
    schema: &USER_SCHEMA,
    extensions: &[&ENTERPRISE_SCHEMA],
};

/// Groups.
pub const GROUP: Kind = Kind {
    name: "Group",
    endpoint: "/Groups",
    description: "A group of people and groups.",
    schema: &GROUP_SCHEMA,
    extensions: &[],
};

/// What an organisation knows of its people (RFC 7643, 4.3).
pub const ENTERPRISE: &Schema = &ENTERPRISE_SCHEMA;

const SUPPORTED: Attribute = Attribute::flag("supported", "Whether it is supported.").required().ours();

const SCHEMA_PARTS: &[Attribute] = &[
    Attribute::text("name", "Its name.").required().exact().ours(),
    Attribute::text("type", "What its values are.").required().exact().ours(),
    Attribute::flag("multiValued", "Whether it holds several.").required().ours(),
    Attribute::text("description", "What it is.").ours(),
    Attribute::flag("required", "Whether a resource must have it.").ours(),
    Attribute::text("canonicalValues", "Values that are usual.").exact().many().ours(),
    Attribute::flag("caseExact", "Whether case matters.").ours(),
    Attribute::text("mutability", "Who may set it.").exact().ours(),
    Attribute::text("returned", "When it is in answers.").exact().ours(),
    Attribute::text("uniqueness", "Whether no two may have the same.").exact().ours(),
    Attribute::text("referenceTypes", "What it may point to.").exact().many().ours(),
];

const SCHEMA_ATTRIBUTE: &[Attribute] = &[
    Attribute::text("name", "Its name.").required().exact().ours(),
    Attribute::text("type", "What its values are.").required().exact().ours(),
    Attribute::flag("multiValued", "Whether it holds several.").required().ours(),
    Attribute::text("description", "What it is.").ours(),
    Attribute::flag("required", "Whether a resource must have it.").ours(),
    Attribute::text("canonicalValues", "Values that are usual.").exact().many().ours(),
    Attribute::flag("caseExact", "Whether case matters.").ours(),
    Attribute::text("mutability", "Who may set it.").exact().ours(),
    Attribute::text("returned", "When it is in answers.").exact().ours(),
    Attribute::text("uniqueness", "Whether no two may have the same.").exact().ours(),
    Attribute::text("referenceTypes", "What it may point to.").exact().many().ours(),
    Attribute::complex("subAttributes", SCHEMA_PARTS, "Its parts.").many().ours(),
];

/// The schemas that describe the service itself.
pub(crate) const META: &[Schema] = &[
    Schema {
        id: "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig",
        name: "ServiceProviderConfig",
        description: "What the service can do.",
        attributes: &[
            Attribute::reference("documentationUri", &["external"], "Where it is documented.").ours(),
            Attribute::complex("patch", &[SUPPORTED], "PATCH.").required().ours(),
            Attribute::complex(
                "bulk",
                &[
                    SUPPORTED,
                    Attribute::integer("maxOperations", "Operations of one request at the most.")
                        .required()
                        .ours(),
                    Attribute::integer("maxPayloadSize", "Bytes of one request at the most.")
                        .required()
                        .ours(),
                ],
                "Several operations in one request.",
            )
            .required()
            .ours(),
            Attribute::complex(
                "filter",
                &[
                    SUPPORTED,
                    Attribute::integer("maxResults", "Resources of one answer at the most.")
                        .required()
                        .ours(),
                ],
                "Filters.",
            )
            .required()
            .ours(),
            Attribute::complex("changePassword", &[SUPPORTED], "Changing passwords.").required().ours(),
            Attribute::complex("sort", &[SUPPORTED], "Sorting.").required().ours(),
            Attribute::complex("etag", &[SUPPORTED], "Entity tags.").required().ours(),
            Attribute::complex(
                "pagination",
                &[
                    Attribute::flag("cursor", "Pages by cursor.").required().ours(),
                    Attribute::flag("index", "Pages by index.").required().ours(),
                    Attribute::text("defaultPaginationMethod", "What is done unasked.").ours(),
                    Attribute::integer("defaultPageSize", "Resources of a page, unasked.").ours(),
                    Attribute::integer("maxPageSize", "Resources of a page at the most.").ours(),
                ],
                "Pages.",
            )
            .ours(),
            Attribute::complex(
                "authenticationSchemes",
                &[
                    Attribute::text("type", "Which.").required().exact().ours(),
                    Attribute::text("name", "What it is called.").required().exact().ours(),
                    Attribute::text("description", "What it is.").required().exact().ours(),
                    Attribute::reference("specUri", &["external"], "Where it is specified.").ours(),
                    Attribute::flag("primary", "Whether it is the first choice.").ours(),
                ],
                "How clients prove themselves.",
            )
            .many()
            .required()
            .ours(),
        ],
    },
    Schema {
        id: "urn:ietf:params:scim:schemas:core:2.0:ResourceType",
        name: "ResourceType",
        description: "What kind of resources there are.",
        attributes: &[
            Attribute::text("id", "Its name.").exact().ours(),
            Attribute::text("name", "Its name.").required().exact().ours(),
            Attribute::text("description", "What it is.").ours(),
            Attribute::reference("endpoint", &["uri"], "Where it is.").required().ours(),
            Attribute::reference("schema", &["uri"], "Its schema.").required().ours(),
            Attribute::complex(
                "schemaExtensions",
                &[
                    Attribute::reference("schema", &["uri"], "The schema.").required().ours(),
                    Attribute::flag("required", "Whether a resource must have it.").required().ours(),
                ],
                "Schemas that it may have beside.",
            )
            .many()
            .ours(),
        ],
    },
    Schema {
        id: "urn:ietf:params:scim:schemas:core:2.0:Schema",
        name: "Schema",
        description: "What resources look like.",
        attributes: &[
            Attribute::text("id", "The URN.").required().exact().ours(),
            Attribute::text("name", "What it is called.").required().exact().ours(),
            Attribute::text("description", "What it is for.").ours(),
            Attribute::complex("attributes", SCHEMA_ATTRIBUTE, "Its attributes.").many().required().ours(),
        ],
    },
];
