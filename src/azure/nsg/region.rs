//! Names of regions. Resource Manager, service tags and the old XML list each spell them in their own way.

/// Name in Resource Manager; in tags of services such as `Storage`; where they differ from it, in `AzureCloud` tags and
/// in the old XML list. Sources: `properties.region` and `name` of the published service tags, the list of irregular
/// `AzureCloud` names in "Virtual network service tags", and the XML list of download 41653.
const REGIONS: &[(&str, &str, &[&str])] = &[
    ("australiacentral", "AustraliaCentral", &["australiac"]),
    ("australiacentral2", "AustraliaCentral2", &["australiac2"]),
    ("australiaeast", "AustraliaEast", &[]),
    ("australiasoutheast", "AustraliaSoutheast", &[]),
    ("austriaeast", "AustriaEast", &[]),
    ("belgiumcentral", "BelgiumCentral", &[]),
    ("brazilsouth", "BrazilSouth", &[]),
    ("brazilsoutheast", "BrazilSoutheast", &["brazilse"]),
    ("canadacentral", "CanadaCentral", &[]),
    ("canadaeast", "CanadaEast", &[]),
    ("centralindia", "CentralIndia", &["indiacentral"]),
    ("centralus", "CentralUS", &["uscentral"]),
    ("centraluseuap", "CentralUSEUAP", &["uscentraleuap"]),
    ("chilecentral", "ChileCentral", &["chilec"]),
    ("chinaeast", "ChinaEast", &[]),
    ("chinaeast2", "ChinaEast2", &["chinae2"]),
    ("chinaeast3", "ChinaEast3", &["chinae3"]),
    ("chinanorth", "ChinaNorth", &[]),
    ("chinanorth2", "ChinaNorth2", &["chinan2"]),
    ("chinanorth3", "ChinaNorth3", &["chinan3"]),
    ("eastasia", "EastAsia", &["asiaeast"]),
    ("eastus", "EastUS", &["useast"]),
    ("eastus2", "EastUS2", &["useast2"]),
    ("eastus2euap", "EastUS2EUAP", &["useast2euap"]),
    ("eastusstg", "EastUSSTG", &["usstagee"]),
    ("francecentral", "FranceCentral", &["centralfrance", "francec"]),
    ("francesouth", "FranceSouth", &["southfrance", "frances"]),
    ("germanynorth", "GermanyNorth", &["germanyn"]),
    ("germanywestcentral", "GermanyWestCentral", &["germanywc"]),
    ("indonesiacentral", "IndonesiaCentral", &[]),
    ("israelcentral", "IsraelCentral", &[]),
    ("italynorth", "ItalyNorth", &[]),
    ("japaneast", "JapanEast", &[]),
    ("japanwest", "JapanWest", &[]),
    ("jioindiacentral", "JioIndiaCentral", &[]),
    ("jioindiawest", "JioIndiaWest", &[]),
    ("koreacentral", "KoreaCentral", &[]),
    ("koreasouth", "KoreaSouth", &[]),
    ("malaysiasouth", "MalaysiaSouth", &[]),
    ("malaysiawest", "MalaysiaWest", &[]),
    ("mexicocentral", "MexicoCentral", &[]),
    ("newzealandnorth", "NewZealandNorth", &[]),
    ("northcentralus", "NorthCentralUS", &["usnorth", "usnorthcentral"]),
    ("northeurope", "NorthEurope", &["europenorth"]),
    ("norwayeast", "NorwayEast", &["norwaye"]),
    ("norwaywest", "NorwayWest", &["norwayw"]),
    ("polandcentral", "PolandCentral", &[]),
    ("qatarcentral", "QatarCentral", &[]),
    ("southafricanorth", "SouthAfricaNorth", &["southafrican"]),
    ("southafricawest", "SouthAfricaWest", &["southafricaw"]),
    ("southcentralus", "SouthCentralUS", &["ussouth", "ussouthcentral"]),
    ("southcentralusstg", "SouthCentralUSSTG", &["usstagec"]),
    ("southeastasia", "SoutheastAsia", &["asiasoutheast"]),
    ("southindia", "SouthIndia", &["indiasouth"]),
    ("spaincentral", "SpainCentral", &[]),
    ("swedencentral", "SwedenCentral", &["swedenc"]),
    ("swedensouth", "SwedenSouth", &["swedens"]),
    ("switzerlandnorth", "SwitzerlandNorth", &["switzerlandn"]),
    ("switzerlandwest", "SwitzerlandWest", &["switzerlandw"]),
    ("taiwannorth", "TaiwanNorth", &[]),
    ("taiwannorthwest", "TaiwanNorthwest", &[]),
    ("uaecentral", "UAECentral", &["uaec"]),
    ("uaenorth", "UAENorth", &["uaen"]),
    ("uksouth", "UKSouth", &[]),
    ("ukwest", "UKWest", &[]),
    ("usdodcentral", "USDoDCentral", &["usdodc"]),
    ("usdodeast", "USDoDEast", &["usdode"]),
    ("usgovarizona", "USGovArizona", &["usgovaz"]),
    ("usgoviowa", "USGovIowa", &[]),
    ("usgovtexas", "USGovTexas", &["usgovsc", "usgovtx"]),
    ("usgovvirginia", "USGovVirginia", &["usgoveast", "usgovva"]),
    ("westcentralus", "WestCentralUS", &["uswestcentral"]),
    ("westeurope", "WestEurope", &["europewest"]),
    ("westindia", "WestIndia", &["indiawest"]),
    ("westus", "WestUS", &["uswest"]),
    ("westus2", "WestUS2", &["uswest2"]),
    ("westus3", "WestUS3", &["uswest3"]),
];

/// The name in Resource Manager of a region in any spelling: `West Europe`, `westeurope` and `europewest` are one. A
/// region that is not known keeps its name, without spaces and in lower case.
#[must_use]
pub fn canonical(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    REGIONS
        .iter()
        .find(|(arm, _, others)| *arm == plain || others.contains(&plain.as_str()))
        .map_or(plain.clone(), |(arm, ..)| (*arm).to_owned())
}

/// The region as service tags such as `Storage.WestEurope` spell it, whatever its spelling here; `None`: a region that
/// this program does not know.
#[must_use]
pub fn in_tags(name: &str) -> Option<&'static str> {
    let canonical = canonical(name);
    REGIONS.iter().find(|(arm, ..)| *arm == canonical).map(|(_, tag, _)| *tag)
}
