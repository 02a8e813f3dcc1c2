"""What the quickstart shop sells: product types with neutral sentences on them, their brands, and what follows what.

Titles and categories are made of these words alone; nothing here hints at why somebody would buy the product.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BRANDS", "CLOSINGS", "PRODUCT_TYPES", "ProductType"]


@dataclass(frozen=True)
class ProductType:
    """A kind of product: what its title and category say, neutral sentences on it, and what is bought after it.

    ``path`` is the category from department to shelf, ``cents`` the usual price, ``followers`` are names of the types
    that customers tend to buy next, and the first of the ``facts`` opens the description.
    """

    name: str
    path: tuple[str, str, str]
    cents: int
    followers: tuple[str, ...]
    facts: tuple[str, ...]

    @property
    def noun(self) -> str:
        """The name inside a sentence."""
        return self.name.lower()


CLOSINGS = (
    "Delivery takes two to four working days.",
    "It is covered by our usual two-year guarantee.",
    "Several versions are available from the same range.",
    "Please see the label for full details.",
    "Returns are accepted within thirty days.",
    "The measurements are listed in the table below.",
)
"""Sentences that any product may end with, and that say nothing about it."""

BRANDS = {
    "Home": ("Brambleford", "Halden", "Ostergaard", "Pellworm"),
    "Beauty": ("Lumelle", "Verisan", "Calyra", "Odelin"),
    "Sports": ("Northpeak", "Stridewell", "Kavendo", "Torvald"),
    "Stationery": ("Quillmark", "Inkerly", "Paperhaus", "Marlowe"),
    "Audio": ("Sonavox", "Tremolo", "Audivar", "Klangwerk"),
    "Art": ("Umbria", "Canvello", "Pigmenta", "Atelio"),
    "Garden": ("Fernhill", "Rootwell", "Greenacre", "Mosswood"),
}
"""Brands of a department; every brand sells to every interest."""

PRODUCT_TYPES = (
    ProductType(
        "Kettle",
        ("Home", "Kitchen", "Kettles"),
        4500,
        ("Tea Set", "Serving Tray"),
        (
            "The kettle holds one and a half litres.",
            "Water boils in about four minutes.",
            "The lid lifts off for filling.",
            "A gauge on the side shows the water level.",
        ),
    ),
    ProductType(
        "Tea Set",
        ("Home", "Kitchen", "Tableware"),
        5200,
        ("Serving Tray", "Blanket"),
        (
            "The set has a pot, four cups and four saucers.",
            "A strainer sits inside the spout.",
            "The pot serves four people.",
            "The cups stack on top of each other.",
        ),
    ),
    ProductType(
        "Serving Tray",
        ("Home", "Kitchen", "Tableware"),
        2800,
        ("Salad Bowl", "Table Lamp"),
        (
            "The tray has a raised rim and two grips.",
            "The surface keeps glasses from sliding.",
            "There is space for six plates.",
            "Rubber feet protect the table.",
        ),
    ),
    ProductType(
        "Bread Bin",
        ("Home", "Kitchen", "Storage"),
        3900,
        ("Cutting Board", "Salad Bowl"),
        (
            "The bin takes two large loaves.",
            "Small vents keep the crust crisp.",
            "The front rolls up and down.",
            "Crumbs collect in a drawer at the bottom.",
        ),
    ),
    ProductType(
        "Cutting Board",
        ("Home", "Kitchen", "Boards"),
        2600,
        ("Bread Bin", "Salad Bowl"),
        (
            "The board has a groove that collects juice.",
            "Both sides can be used.",
            "A hole in the corner lets it hang on a hook.",
            "The surface is kind to blades.",
        ),
    ),
    ProductType(
        "Salad Bowl",
        ("Home", "Kitchen", "Tableware"),
        2400,
        ("Serving Tray", "Watering Can"),
        (
            "The bowl holds three litres.",
            "The wide shape leaves space for tossing.",
            "Two serving spoons are included.",
            "It may go into the dishwasher.",
        ),
    ),
    ProductType(
        "Pillow",
        ("Home", "Bedroom", "Bedding"),
        3400,
        ("Blanket", "Table Lamp"),
        (
            "The pillow measures fifty by seventy centimetres.",
            "The filling can be taken out through a zip.",
            "The cover is washable at forty degrees.",
            "It is of medium firmness.",
        ),
    ),
    ProductType(
        "Blanket",
        ("Home", "Bedroom", "Bedding"),
        4800,
        ("Pillow", "Face Cream"),
        (
            "The blanket covers a double bed.",
            "The edges are sewn twice.",
            "It can be washed in the machine.",
            "The weave lets air pass.",
        ),
    ),
    ProductType(
        "Table Lamp",
        ("Home", "Bedroom", "Lighting"),
        4200,
        ("Notebook", "Speaker"),
        (
            "The lamp takes a standard bulb.",
            "The cable is two metres long.",
            "A switch sits on the foot.",
            "The shade is thirty centimetres wide.",
        ),
    ),
    ProductType(
        "Face Cream",
        ("Beauty", "Face Care", "Creams"),
        2200,
        ("Face Cleanser", "Hair Brush"),
        (
            "The jar holds fifty millilitres.",
            "A thin layer is enough.",
            "The cream is absorbed within a minute.",
            "Use it in the morning and at night.",
        ),
    ),
    ProductType(
        "Face Cleanser",
        ("Beauty", "Face Care", "Cleansers"),
        1600,
        ("Face Cream", "Shampoo Bar"),
        (
            "The cleanser foams with lukewarm water.",
            "It removes make-up and sunscreen.",
            "The pump releases the right amount.",
            "One bottle lasts about two months.",
        ),
    ),
    ProductType(
        "Shampoo Bar",
        ("Beauty", "Hair Care", "Shampoo"),
        1200,
        ("Hair Brush", "Face Cleanser"),
        (
            "The bar lasts for about sixty washes.",
            "Rub it between wet palms until it foams.",
            "It rinses out without residue.",
            "Let it dry on a rack between washes.",
        ),
    ),
    ProductType(
        "Hair Brush",
        ("Beauty", "Hair Care", "Brushes"),
        1800,
        ("Shampoo Bar", "Yoga Mat"),
        (
            "The bristles sit on an air cushion.",
            "The brush works on wet and dry hair.",
            "It detangles without pulling.",
            "The head is eight centimetres wide.",
        ),
    ),
    ProductType(
        "Yoga Mat",
        ("Sports", "Fitness", "Mats"),
        3600,
        ("Foam Roller", "Water Bottle"),
        (
            "The mat is six millimetres thick.",
            "Both sides grip the floor.",
            "It rolls up and closes with a strap.",
            "It is long enough for tall people.",
        ),
    ),
    ProductType(
        "Foam Roller",
        ("Sports", "Fitness", "Recovery"),
        2500,
        ("Yoga Mat", "Water Bottle"),
        (
            "The roller is forty-five centimetres long.",
            "Ridges on the surface press on tired muscles.",
            "The core bears one hundred and fifty kilograms.",
            "Use it for backs, legs and shoulders.",
        ),
    ),
    ProductType(
        "Water Bottle",
        ("Sports", "Accessories", "Bottles"),
        2100,
        ("Backpack", "Headset"),
        (
            "The bottle holds three quarters of a litre.",
            "Drinks stay cold for a day.",
            "The cap closes tightly.",
            "The wide neck takes ice cubes.",
        ),
    ),
    ProductType(
        "Backpack",
        ("Sports", "Accessories", "Bags"),
        6200,
        ("Water Bottle", "Notebook"),
        (
            "The backpack holds twenty litres.",
            "The straps are padded and adjustable.",
            "There are two pockets on the sides.",
            "The main compartment closes with a zip.",
        ),
    ),
    ProductType(
        "Notebook",
        ("Stationery", "Paper", "Notebooks"),
        1400,
        ("Fountain Pen", "Sketchbook"),
        (
            "The notebook has one hundred and ninety-two pages.",
            "It opens flat on the table.",
            "The pages are numbered and dotted.",
            "An elastic band keeps it closed.",
        ),
    ),
    ProductType(
        "Fountain Pen",
        ("Stationery", "Writing", "Pens"),
        3200,
        ("Notebook", "Sketchbook"),
        (
            "The pen has a nib of medium width.",
            "It takes cartridges or a converter.",
            "The ink flows evenly.",
            "A clip holds it in a pocket.",
        ),
    ),
    ProductType(
        "Headset",
        ("Audio", "Personal Audio", "Headsets"),
        8900,
        ("Microphone", "Speaker"),
        (
            "The battery lasts for thirty hours.",
            "The headset connects by cable or radio.",
            "The ear cushions can be replaced.",
            "A dial on the left changes the volume.",
        ),
    ),
    ProductType(
        "Microphone",
        ("Audio", "Recording", "Microphones"),
        9800,
        ("Headset", "Speaker"),
        (
            "The microphone picks up what is in front of it.",
            "It plugs into any USB port.",
            "A stand and a cable are included.",
            "A light shows when it is muted.",
        ),
    ),
    ProductType(
        "Speaker",
        ("Audio", "Home Audio", "Speakers"),
        7600,
        ("Headset", "Table Lamp"),
        (
            "The speaker fills a living room with sound.",
            "Two units can be paired for stereo.",
            "The battery charges in three hours.",
            "It connects to phones and computers.",
        ),
    ),
    ProductType(
        "Paint Set",
        ("Art", "Painting", "Paints"),
        2900,
        ("Sketchbook", "Easel"),
        (
            "The set has twenty-four colours.",
            "The paints mix well and dry matt.",
            "Two brushes are included.",
            "A palette for mixing sits in the lid.",
        ),
    ),
    ProductType(
        "Sketchbook",
        ("Art", "Drawing", "Paper"),
        1700,
        ("Paint Set", "Easel"),
        (
            "The paper takes pencil, ink and light washes.",
            "There are eighty sheets.",
            "The spiral binding lets the pages turn over fully.",
            "The sheets can be torn out cleanly.",
        ),
    ),
    ProductType(
        "Easel",
        ("Art", "Painting", "Easels"),
        5600,
        ("Paint Set", "Plant Pot"),
        (
            "The easel holds canvases up to one metre.",
            "The angle can be set in five positions.",
            "A ledge keeps brushes within reach.",
            "The legs fold together.",
        ),
    ),
    ProductType(
        "Watering Can",
        ("Garden", "Watering", "Cans"),
        2300,
        ("Plant Pot", "Garden Trowel"),
        (
            "The can holds four litres.",
            "The rose comes off for a single stream.",
            "The long spout reaches the back row.",
            "It is balanced when full.",
        ),
    ),
    ProductType(
        "Plant Pot",
        ("Garden", "Planting", "Pots"),
        1900,
        ("Watering Can", "Garden Trowel"),
        (
            "The pot is twenty centimetres across.",
            "Water drains through a hole in the base.",
            "A matching saucer is included.",
            "It suits herbs, ferns and flowers.",
        ),
    ),
    ProductType(
        "Garden Trowel",
        ("Garden", "Planting", "Tools"),
        1500,
        ("Plant Pot", "Kettle"),
        (
            "The blade is marked for planting depth.",
            "The trowel has a pointed tip for firm soil.",
            "A loop lets it hang in the shed.",
            "The neck does not bend under load.",
        ),
    ),
)
