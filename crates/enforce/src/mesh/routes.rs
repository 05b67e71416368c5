//! Which declared route a request is of.

use std::collections::BTreeMap;

use bartizan_base::Name;
use bartizan_model::mesh_route::Closeness;
use bartizan_model::{EntityName, EntityRef, MeshRouteSpec, Problem, ReasonCode};

use super::line::Line;

/// A route that covers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a Name,
    pub(crate) route: &'a MeshRouteSpec,
    pub(crate) resource: EntityRef,
}

/// How closely a route names a request: by host first, then by path. Less is closer.
type Rank = (usize, Vec<Closeness>);

/// The route that names a request most closely; with `named`, that route and no other.
///
/// # Errors
/// `MeshRouteUnknown` where none does, where several do equally closely, or where a service that is less strict about large and
/// small letters, or about a slash at the end, would see a closer one.
pub(crate) fn find<'a>(
    routes: &'a BTreeMap<Name, MeshRouteSpec>,
    line: &Line,
    named: Option<&str>,
) -> Result<Found<'a>, Problem> {
    let unknown = |detail: &str| Problem::with_detail(ReasonCode::MeshRouteUnknown, detail);
    let asked = |name: &Name| named.is_none_or(|named| named == name.as_str());
    let candidates = || routes.iter().filter(|(name, _)| asked(name));
    let (rank, name, route) = closest(candidates(), line, &line.path, false)
        .map_err(|()| unknown("several routes name it equally closely"))?
        .ok_or_else(|| unknown("no route names its host, method and path"))?;
    let resource =
        route.resource_of(&line.path).ok_or_else(|| unknown("its path makes no name of a resource"))?;
    // All routes, not only the one that was asked for: what the proxy's configuration says must not hide a closer one.
    for reading in readings(&line.path) {
        let other = closest(routes.iter(), line, &reading, true)
            .map_err(|()| unknown("written otherwise, several routes name it"))?;
        let Some((closer, _, other)) = other else { continue };
        let same = (other.action, &other.resource) == (route.action, &route.resource);
        if closer < rank && !same {
            return Err(unknown("written otherwise, another route names it more closely"));
        }
    }
    Ok(Found { name, route, resource: entity(route, resource) })
}

fn entity(route: &MeshRouteSpec, resource: EntityName) -> EntityRef {
    EntityRef { kind: Name::literal(route.action.resource_type()), name: resource }
}

/// The path with and without a slash at its end.
fn readings(path: &str) -> Vec<String> {
    let bare = path.trim_end_matches('/');
    if bare.is_empty() { vec![path.to_owned()] } else { vec![bare.to_owned(), format!("{bare}/")] }
}

type Closest<'a> = Option<(Rank, &'a Name, &'a MeshRouteSpec)>;

/// The one that names it most closely.
///
/// # Errors
/// Where several do that say different things.
fn closest<'a>(
    routes: impl Iterator<Item = (&'a Name, &'a MeshRouteSpec)>,
    line: &Line,
    path: &str,
    folded: bool,
) -> Result<Closest<'a>, ()> {
    let mut best: Closest<'a> = None;
    let mut tied = false;
    for (name, route) in routes {
        if !route.methods.iter().any(|method| method.as_str() == line.method) {
            continue;
        }
        let host = route.hosts.iter().filter_map(|pattern| pattern.matches(&line.host)).min();
        let Some(rank) = host.and_then(|host| Some((host, route.path.matches(path, folded)?))) else {
            continue;
        };
        match &best {
            Some((known, ..)) if *known < rank => {}
            Some((known, _, other)) if *known == rank => tied |= *other != route,
            _ => {
                tied = false;
                best = Some((rank, name, route));
            }
        }
    }
    if tied { Err(()) } else { Ok(best) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn routes(all: &[(&str, &str, &str, &str)]) -> BTreeMap<Name, MeshRouteSpec> {
        let one = |(at, (host, method, path, resource)): (usize, &(&str, &str, &str, &str))| {
            let spec = serde_json::json!({
                "hosts": [host], "methods": [method], "path": path, "action": "api:call", "resource": resource
            });
            (format!("r{at}").parse().unwrap(), serde_json::from_value(spec).unwrap())
        };
        all.iter().enumerate().map(one).collect()
    }

    fn found(all: &[(&str, &str, &str, &str)], method: &str, host: &str, path: &str) -> Option<String> {
        let line = Line::read(method, host, path, &HeaderMap::new()).unwrap();
        find(&routes(all), &line, None).ok().map(|found| found.resource.name.to_string())
    }

    #[test]
    fn what_no_route_names_is_denied() {
        let all = [("shop.example", "GET", "/orders/{id}", "orders")];
        assert_eq!(found(&all, "GET", "shop.example:443", "/orders/7").as_deref(), Some("orders"));
        for (method, host, path) in [
            ("POST", "shop.example", "/orders/7"),
            ("GET", "other.example", "/orders/7"),
            ("GET", "shop.example.evil", "/orders/7"),
            ("GET", "shop.example", "/orders"),
            ("GET", "shop.example", "/orders/7/8"),
        ] {
            assert_eq!(found(&all, method, host, path), None, "{method} {host}{path}");
        }
        assert_eq!(found(&[], "GET", "shop.example", "/"), None);
    }

    #[test]
    fn the_closest_route_counts_and_equally_close_ones_deny() {
        let all = [
            ("*.example", "GET", "/**", "any"),
            ("shop.example", "GET", "/**", "shop"),
            ("shop.example", "GET", "/orders/{id}", "order {id}"),
            ("shop.example", "GET", "/orders/new", "new"),
        ];
        let of = |host: &str, path: &str| found(&all, "GET", host, path).unwrap_or_default();
        assert_eq!(of("x.example", "/orders/7"), "any");
        assert_eq!(of("shop.example", "/x"), "shop");
        assert_eq!(of("shop.example", "/orders/7"), "order 7");
        assert_eq!(of("shop.example", "/orders/new"), "new");
        let twice = [("shop.example", "GET", "/{a}", "a"), ("shop.example", "GET", "/{b}", "b")];
        assert_eq!(found(&twice, "GET", "shop.example", "/x"), None);
    }

    #[test]
    fn a_service_that_folds_letters_or_slashes_cannot_be_reached_by_another_route() {
        let all = [
            ("shop.example", "GET", "/**", "any"),
            ("shop.example", "GET", "/admin", "admin"),
            ("shop.example", "GET", "/internal/**", "internal"),
        ];
        assert_eq!(found(&all, "GET", "shop.example", "/admin").as_deref(), Some("admin"));
        for path in ["/Admin", "/ADMIN", "/admin/", "/aDmin/", "/Internal/x", "/internal"] {
            assert_eq!(found(&all, "GET", "shop.example", path), None, "{path}");
        }
        assert_eq!(found(&all, "GET", "shop.example", "/internal/x").as_deref(), Some("internal"));
        assert_eq!(found(&all, "GET", "shop.example", "/administrators").as_deref(), Some("any"));
        let both = [("shop.example", "GET", "/a", "same"), ("shop.example", "GET", "/a/**", "same")];
        for path in ["/a", "/a/", "/a/b"] {
            assert_eq!(found(&both, "GET", "shop.example", path).as_deref(), Some("same"), "{path}");
        }
    }

    #[test]
    fn the_proxys_configuration_can_choose_a_route_but_not_widen_it() {
        let all = routes(&[("shop.example", "GET", "/a", "a"), ("shop.example", "GET", "/**", "any")]);
        let find = |path: &str, named: &str| {
            let line = Line::read("GET", "shop.example", path, &HeaderMap::new()).unwrap();
            find(&all, &line, Some(named)).ok().map(|found| found.name.to_string())
        };
        assert_eq!(find("/a", "r0").as_deref(), Some("r0"));
        assert_eq!(find("/b", "r1").as_deref(), Some("r1"));
        assert_eq!(find("/b", "r0"), None, "it does not cover the request");
        assert_eq!(find("/a", "r1"), None, "a closer one says something else");
        assert_eq!(find("/a", "r9"), None);
    }
}
