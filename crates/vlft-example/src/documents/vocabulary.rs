//! The words of the example: short lists, because a tiny model must be able to learn them, and
//! invented names, because no real company belongs in a test. Ports are real places.

use crate::page::Ink;

/// A shipping line or forwarder with its own paper.
pub(crate) struct Carrier {
    pub(crate) name: &'static str,
    pub(crate) tagline: &'static str,
    pub(crate) address: &'static str,
    /// Starts its B/L numbers.
    pub(crate) code: &'static str,
    pub(crate) ink: Ink,
    /// Which of the three drawn logos.
    pub(crate) logo: u8,
}

pub(crate) const CARRIERS: [Carrier; 6] = [
    Carrier {
        name: "MERIDIAN STAR LINE",
        tagline: "Ocean Transport since 1961",
        address: "18 Harbour Exchange, Level 9, Singapore 049213",
        code: "MSTL",
        ink: Ink(18, 52, 110),
        logo: 0,
    },
    Carrier {
        name: "ABC DRY LINES",
        tagline: "A member of the ABC Dry Group",
        address: "Quay 4, Inner Dock Road, Colombo 01500",
        code: "ABCDR",
        ink: Ink(150, 26, 32),
        logo: 1,
    },
    Carrier {
        name: "SOUTH GULF NAVIGATION",
        tagline: "Feeder and Liner Services",
        address: "77 Nguyen Tat Thanh, District 4, Ho Chi Minh City",
        code: "SGNS",
        ink: Ink(0, 96, 88),
        logo: 2,
    },
    Carrier {
        name: "NORTH PACIFIC CONTAINER SERVICE",
        tagline: "NPCS - Asia / Oceania / Americas",
        address: "2-11 Kaigan-dori, Chuo-ku, Kobe 650-0024",
        code: "NPCS",
        ink: Ink(34, 34, 40),
        logo: 0,
    },
    Carrier {
        name: "BRIGHT ANCHOR FORWARDING CO.,LTD.",
        tagline: "International Freight Forwarder - NVOCC",
        address: "99/12 Rama IV Road, Khlong Toei, Bangkok 10110",
        code: "BKKB",
        ink: Ink(20, 70, 150),
        logo: 1,
    },
    Carrier {
        name: "X-BLUE LOGISTICS",
        tagline: "Multimodal Transport Operator",
        address: "Unit 1205, Kwai Chung Plaza, Hong Kong",
        code: "XBLH",
        ink: Ink(10, 60, 120),
        logo: 2,
    },
];

/// A trading house: its name, its address, and the port nearest to it.
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) address: &'static str,
    pub(crate) port: &'static str,
}

const fn party(name: &'static str, address: &'static str, port: &'static str) -> Party {
    Party {
        name,
        address,
        port,
    }
}

pub(crate) const SHIPPERS: [Party; 8] = [
    party(
        "SOME RICE CO.,LTD.",
        "55 CHAROEN KRUNG ROAD, BANG RAK, BANGKOK 10500, THAILAND",
        "BANGKOK, THAILAND",
    ),
    party(
        "GOLDEN PADDY MILLS CO.,LTD.",
        "8/3 MOO 2, NAKHON SAWAN 60000, THAILAND",
        "BANGKOK, THAILAND",
    ),
    party(
        "MEKONG FOODS JSC",
        "LOT 14, TRA NOC INDUSTRIAL ZONE, CAN THO, VIETNAM",
        "HO CHI MINH CITY, VIETNAM",
    ),
    party(
        "LOTUS RUBBER PUBLIC CO.,LTD.",
        "120 SRINAKARIN ROAD, SAMUT PRAKAN 10270, THAILAND",
        "LAEM CHABANG, THAILAND",
    ),
    party(
        "EASTERN CERAMICS LTD.",
        "NO. 6 KILN STREET, FOSHAN, GUANGDONG, CHINA",
        "SHEKOU, CHINA",
    ),
    party(
        "TAN PHAT FURNITURE CO.,LTD.",
        "DI AN WARD, BINH DUONG PROVINCE, VIETNAM",
        "HO CHI MINH CITY, VIETNAM",
    ),
    party(
        "HARBOUR TEXTILES PVT LTD",
        "21 MILL LANE, COLOMBO 14, SRI LANKA",
        "COLOMBO, SRI LANKA",
    ),
    party(
        "SUNRISE CANNING CO.,LTD.",
        "31 EKACHAI ROAD, SAMUT SAKHON 74000, THAILAND",
        "LAEM CHABANG, THAILAND",
    ),
];

pub(crate) const CONSIGNEES: [Party; 12] = [
    party(
        "A BUYER BERHAD",
        "LOT 5, JALAN PELABUHAN, 42000 PORT KLANG, SELANGOR, MALAYSIA",
        "PORT KLANG, MALAYSIA",
    ),
    party(
        "BLUE HERON TRADING PTE LTD",
        "31 JURONG PORT ROAD #04-02, SINGAPORE 619115",
        "SINGAPORE",
    ),
    party(
        "PT SUMBER MAKMUR",
        "JL. RAYA PELABUHAN NO. 9, JAKARTA UTARA 14310, INDONESIA",
        "JAKARTA, INDONESIA",
    ),
    party(
        "KOWLOON GENERAL FOODS LTD",
        "FLAT B, 7/F, WAH FAT BUILDING, KWUN TONG, HONG KONG",
        "HONG KONG",
    ),
    party(
        "MANILA GRAIN CORPORATION",
        "1210 DELPAN STREET, TONDO, MANILA 1012, PHILIPPINES",
        "MANILA, PHILIPPINES",
    ),
    party(
        "YAMATE SHOJI K.K.",
        "3-4-1 KAIGAN, MINATO-KU, TOKYO 108-0022, JAPAN",
        "TOKYO, JAPAN",
    ),
    party(
        "ROTTERDAM RICE IMPORT B.V.",
        "WAALHAVEN ZUIDZIJDE 19, 3089 JH ROTTERDAM, NETHERLANDS",
        "ROTTERDAM, NETHERLANDS",
    ),
    party(
        "HANSA HANDELS GMBH",
        "AM SANDTORKAI 41, 20457 HAMBURG, GERMANY",
        "HAMBURG, GERMANY",
    ),
    party(
        "CAPE VERDANT IMPORTS (PTY) LTD",
        "15 PAARDEN EILAND ROAD, CAPE TOWN 7405, SOUTH AFRICA",
        "CAPE TOWN, SOUTH AFRICA",
    ),
    party(
        "AL NAKHEEL FOODSTUFF LLC",
        "P.O. BOX 61230, JEBEL ALI, DUBAI, U.A.E.",
        "JEBEL ALI, U.A.E.",
    ),
    party(
        "BUSAN MARITIME TRADING CO.,LTD.",
        "52 JUNGANG-DAERO, JUNG-GU, BUSAN 48924, KOREA",
        "BUSAN, KOREA",
    ),
    party(
        "TO ORDER OF FIRST DELTA BANK",
        "TRADE FINANCE DEPARTMENT",
        "SINGAPORE",
    ),
];

pub(crate) const LOADING_PORTS: [&str; 6] = [
    "BANGKOK, THAILAND",
    "LAEM CHABANG, THAILAND",
    "HO CHI MINH CITY, VIETNAM",
    "HAIPHONG, VIETNAM",
    "SHEKOU, CHINA",
    "COLOMBO, SRI LANKA",
];

pub(crate) const DISCHARGE_PORTS: [&str; 11] = [
    "PORT KLANG, MALAYSIA",
    "SINGAPORE",
    "JAKARTA, INDONESIA",
    "HONG KONG",
    "MANILA, PHILIPPINES",
    "TOKYO, JAPAN",
    "ROTTERDAM, NETHERLANDS",
    "HAMBURG, GERMANY",
    "CAPE TOWN, SOUTH AFRICA",
    "JEBEL ALI, U.A.E.",
    "BUSAN, KOREA",
];

pub(crate) const VESSELS: [&str; 10] = [
    "ORIENT PEARL",
    "MERIDIAN HOPE",
    "STAR OF SIAM",
    "BAY EXPRESS",
    "PACIFIC LANTERN",
    "JADE HORIZON",
    "GULF TRADER",
    "NORTHERN CRANE",
    "SILVER CURRENT",
    "MONSOON SPIRIT",
];

/// Invented owners' prefixes of container numbers.
pub(crate) const OWNERS: [&str; 6] = ["MSTU", "ABDU", "SGNU", "NPXU", "TRLU", "OCBU"];

/// What is in the boxes: description lines, packages, kilograms per 20' box.
pub(crate) struct Goods {
    pub(crate) lines: &'static [&'static str],
    pub(crate) package: &'static str,
    pub(crate) packages_per_box: i32,
    pub(crate) kilograms_per_package: i32,
    pub(crate) reefer: bool,
}

pub(crate) const GOODS: [Goods; 7] = [
    Goods {
        lines: &[
            "THAI WHITE RICE 5% BROKEN",
            "PACKED IN NEW PP BAGS OF 50 KG NET",
            "HS CODE 1006.30",
        ],
        package: "BAGS",
        packages_per_box: 500,
        kilograms_per_package: 50,
        reefer: false,
    },
    Goods {
        lines: &[
            "NATURAL RUBBER RSS 3",
            "IN BALES, SHRINK WRAPPED ON PALLETS",
            "HS CODE 4001.21",
        ],
        package: "BALES",
        packages_per_box: 180,
        kilograms_per_package: 111,
        reefer: false,
    },
    Goods {
        lines: &[
            "CANNED TUNA IN VEGETABLE OIL",
            "48 X 185 G PER CARTON",
            "HS CODE 1604.14",
        ],
        package: "CARTONS",
        packages_per_box: 1750,
        kilograms_per_package: 11,
        reefer: false,
    },
    Goods {
        lines: &[
            "GLAZED PORCELAIN TILES 600 X 600 MM",
            "ON WOODEN PALLETS, ISPM 15 TREATED",
            "HS CODE 6907.21",
        ],
        package: "PALLETS",
        packages_per_box: 24,
        kilograms_per_package: 1080,
        reefer: false,
    },
    Goods {
        lines: &[
            "WOODEN FURNITURE, KNOCKED DOWN",
            "AS PER PROFORMA INVOICE",
            "HS CODE 9403.60",
        ],
        package: "CARTONS",
        packages_per_box: 410,
        kilograms_per_package: 19,
        reefer: false,
    },
    Goods {
        lines: &[
            "FROZEN PANGASIUS FILLETS",
            "TEMPERATURE TO BE SET AT MINUS 20 C",
            "HS CODE 0304.62",
        ],
        package: "CARTONS",
        packages_per_box: 2100,
        kilograms_per_package: 11,
        reefer: true,
    },
    Goods {
        lines: &[
            "COTTON YARN NE 30/1 COMBED",
            "ON CONES, IN CARTONS",
            "HS CODE 5205.23",
        ],
        package: "CARTONS",
        packages_per_box: 340,
        kilograms_per_package: 51,
        reefer: false,
    },
];

pub(crate) const FREE_DAYS: [i32; 5] = [5, 7, 10, 14, 21];

pub(crate) const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
