package world

// subject is one thing of a task.
type subject struct {
	name  string
	shape string // drawing; for drinks and powders the colour alone matters
	c     rgb
	word  string // colour word, where the prompts need one
	b     bool   // the right outcome is the task's second one (subject-oriented tasks)
}

// task is one of the 16 of Science-T2I. Each has two outcomes; draw shows the first or the second.
type task struct {
	abbr, law, category string
	bySubject           bool   // the subject decides the outcome (6 tasks), not the condition (10)
	noun                string // the object as it stands in every implicit prompt
	ip, first, second   []string
	subjects            []subject // condition tasks: the last heldSubjects are held out
	draw                func(p *pen, s subject, first bool)
}

const heldSubjects = 3

var (
	red    = rgb{206, 42, 42}
	yellow = rgb{246, 208, 56}
	orange = rgb{242, 142, 34}
	fresh  = rgb{52, 150, 62}
	pale   = rgb{236, 222, 130}
	brown  = rgb{146, 102, 54}
)

var plants = []subject{
	{name: "fern", shape: "fern"}, {name: "rose", shape: "rose"}, {name: "cactus", shape: "cactus"}, {name: "ivy", shape: "ivy"},
	{name: "tulip", shape: "tulip"}, {name: "basil", shape: "basil"}, {name: "palm", shape: "palm"},
	{name: "mint", shape: "mint"}, {name: "daisy", shape: "daisy"}, {name: "sunflower", shape: "sunflower"},
}

var tasks = []task{
	{
		abbr: "RI", law: "ripeness", category: "biology", noun: "{n}",
		ip:     []string{"an unripe {n}", "a {n} that is not yet ripe", "a {n} picked too early"},
		first:  []string{"a green {n}", "a {n} with green skin", "a {n} that is green all over"},
		second: []string{"a {w} {n}", "a {n} with {w} skin", "a {n} that is {w} all over"},
		subjects: []subject{
			{name: "apple", shape: "apple", c: red, word: "red"}, {name: "banana", shape: "banana", c: yellow, word: "yellow"},
			{name: "tomato", shape: "tomato", c: rgb{222, 56, 36}, word: "red"}, {name: "strawberry", shape: "strawberry", c: rgb{222, 36, 60}, word: "red"},
			{name: "orange", shape: "orange", c: orange, word: "orange"}, {name: "mango", shape: "mango", c: rgb{246, 160, 50}, word: "orange"},
			{name: "pear", shape: "pear", c: rgb{232, 206, 76}, word: "yellow"},
			{name: "cherry", shape: "cherry", c: rgb{176, 22, 46}, word: "red"}, {name: "lemon", shape: "lemon", c: rgb{250, 222, 66}, word: "yellow"},
			{name: "plum", shape: "plum", c: rgb{122, 56, 150}, word: "purple"},
		},
		draw: func(p *pen, s subject, first bool) { p.named(s.shape, pick(first, unripe, s.c)) },
	},
	{
		abbr: "RU", law: "rust", category: "chemistry", noun: "iron {n}",
		ip:       []string{"an iron {n} left in the rain for years", "an old iron {n} from the sea", "an iron {n} left in the sea for years"},
		first:    []string{"a {n} covered in brown rust", "a rusty brown {n}", "a {n} with a rusty surface"},
		second:   []string{"a shiny gray {n}", "a clean silver {n}", "a {n} with a shiny surface"},
		subjects: sameColour(steel, "nail", "key", "gear", "hammer", "padlock", "bolt", "chain", "wrench", "anchor", "saw"),
		draw:     func(p *pen, s subject, first bool) { p.named(s.shape, pick(first, rusty, steel)) },
	},
	{
		abbr: "FR", law: "flame reaction", category: "chemistry", bySubject: true, noun: "{n} powder",
		ip:     []string{"burning {n} powder in a dish", "{n} powder on fire in a dish", "{n} powder that is burning"},
		first:  []string{"a {w} flame over a dish", "{n} powder with a {w} flame", "a dish with a bright {w} flame"},
		second: []string{"an orange flame over a dish", "{n} powder with an orange flame", "a dish with a bright orange flame"},
		subjects: []subject{
			{name: "copper", c: rgb{50, 200, 90}, word: "green"}, {name: "strontium", c: rgb{226, 30, 44}, word: "red"},
			{name: "potassium", c: rgb{176, 96, 226}, word: "violet"}, {name: "caesium", c: rgb{60, 90, 232}, word: "blue"},
			{name: "rubidium", c: rgb{226, 60, 190}, word: "magenta"}, {name: "barium", c: rgb{160, 222, 50}, word: "lime"},
			{name: "lithium", c: rgb{196, 16, 90}, word: "crimson"}, {name: "zinc", c: rgb{60, 190, 196}, word: "teal"},
			{name: "arsenic", c: rgb{130, 176, 240}, word: "azure"},
		},
		draw: func(p *pen, s subject, first bool) { flame(p, pick(first, s.c, rgb{255, 150, 34})) },
	},
	{
		abbr: "BU", law: "buoyancy", category: "physics", bySubject: true, noun: "{n}",
		ip:     []string{"a {n} in a tank of water", "a {n} dropped into a water tank", "a {n} put into a tank of water"},
		first:  []string{"a {n} lying on the bottom of a tank", "a sunken {n} in a tank", "a tank with a {n} deep below"},
		second: []string{"a {n} floating on top in a tank", "a {n} at the surface of a tank", "a tank with a {n} on the water"},
		subjects: []subject{
			{name: "stone", shape: "stone", c: rgb{128, 124, 120}}, {name: "cork", shape: "cork", c: rgb{208, 166, 114}, b: true},
			{name: "coin", shape: "coin", c: rgb{222, 176, 56}}, {name: "duck", shape: "duck", c: rgb{250, 214, 60}, b: true},
			{name: "brick", shape: "brick", c: rgb{182, 76, 56}}, {name: "leaf", shape: "leaf", c: rgb{76, 152, 62}, b: true},
			{name: "anchor", shape: "anchor", c: rgb{84, 90, 102}}, {name: "log", shape: "log", c: rgb{144, 98, 58}, b: true},
			{name: "padlock", shape: "padlock", c: rgb{220, 176, 70}}, {name: "ball", shape: "ball", c: rgb{224, 62, 52}, b: true},
		},
		draw: func(p *pen, s subject, first bool) { tank(p, s.shape, s.c, first) },
	},
	{
		abbr: "SC", law: "seasonal change", category: "biology", bySubject: true, noun: "{n} tree",
		ip:     []string{"a {n} tree in winter", "a {n} tree in january", "a {n} tree in the cold season"},
		first:  []string{"a bare {n} tree with snow", "a leafless snowy {n} tree", "a {n} tree with empty branches"},
		second: []string{"a {n} tree with green leaves", "a full green {n} tree", "a {n} tree with a dense crown"},
		subjects: []subject{
			{name: "oak", shape: "round", c: rgb{84, 146, 56}}, {name: "pine", shape: "cone", c: rgb{30, 98, 62}, b: true},
			{name: "maple", shape: "wide", c: rgb{126, 166, 50}}, {name: "spruce", shape: "tiers", c: rgb{40, 114, 84}, b: true},
			{name: "birch", shape: "tall", c: rgb{146, 186, 82}}, {name: "cypress", shape: "spire", c: rgb{36, 96, 48}, b: true},
			{name: "willow", shape: "droop", c: rgb{120, 174, 88}}, {name: "fir", shape: "fir", c: rgb{52, 104, 76}, b: true},
			{name: "elm", shape: "twin", c: rgb{64, 130, 62}}, {name: "cedar", shape: "flat", c: rgb{34, 106, 90}, b: true},
		},
		draw: func(p *pen, s subject, first bool) { tree(p, s.shape, s.c, first) },
	},
	{
		abbr: "EL", law: "electricity", category: "physics", noun: "{n}",
		ip:       []string{"a {n} without electricity", "a {n} without any power", "a {n} in a power cut"},
		first:    []string{"a dark {n} that is off", "an unlit {n}", "a {n} without any glow"},
		second:   []string{"a glowing {n} that is on", "a bright {n}", "a {n} with a yellow glow"},
		subjects: sameColour(yellow, "bulb", "lamp", "television", "monitor", "lantern", "sign", "phone", "laptop", "oven", "flashlight"),
		draw:     func(p *pen, s subject, first bool) { fixture(p, s.shape, !first) },
	},
	{
		abbr: "ME", law: "melting", category: "physics", noun: "{n}",
		ip:     []string{"a {n} left in the heat", "a {n} in a hot oven", "a {n} after an hour of heat"},
		first:  []string{"a melted {n} puddle", "a flat pool of liquid {n}", "a {n} that has run into a puddle"},
		second: []string{"a solid {n}", "a firm intact {n}", "a {n} that has kept its shape"},
		subjects: []subject{
			{name: "ice cube", shape: "cube", c: rgb{176, 216, 246}}, {name: "butter block", shape: "butter", c: rgb{250, 222, 104}},
			{name: "chocolate bar", shape: "chocolate", c: rgb{104, 62, 36}}, {name: "candle", shape: "candle", c: rgb{226, 64, 64}},
			{name: "snowman", shape: "snowman", c: rgb{248, 250, 255}}, {name: "ice cream", shape: "cone", c: rgb{246, 168, 192}},
			{name: "cheese block", shape: "cheese", c: rgb{246, 188, 56}},
			{name: "crayon", shape: "crayon", c: rgb{64, 96, 214}}, {name: "popsicle", shape: "popsicle", c: rgb{240, 110, 60}},
			{name: "marshmallow", shape: "marshmallow", c: rgb{244, 206, 220}},
		},
		draw: func(p *pen, s subject, first bool) {
			if first {
				puddle(p, s.shape, s.c)
			} else {
				p.named(s.shape, s.c)
			}
		},
	},
	{
		abbr: "GR", law: "gravity", category: "physics", noun: "{n}",
		ip:     []string{"a {n} in a room without gravity", "a {n} where gravity is absent", "a {n} in a space station"},
		first:  []string{"a {n} hovering in the air", "a {n} high up above its shadow", "a {n} in the air above the ground"},
		second: []string{"a {n} resting on the ground", "a {n} lying down low", "a {n} that lies on the ground"},
		subjects: []subject{
			{name: "ball", shape: "ball", c: rgb{224, 62, 52}}, {name: "book", shape: "book", c: rgb{62, 86, 176}},
			{name: "mug", shape: "mug", c: rgb{232, 150, 60}}, {name: "hat", shape: "hat", c: rgb{126, 62, 136}},
			{name: "plate", shape: "plate", c: rgb{246, 248, 250}}, {name: "pencil", shape: "pencil", c: rgb{244, 188, 44}},
			{name: "shoe", shape: "shoe", c: rgb{54, 130, 196}},
			{name: "melon", shape: "melon", c: rgb{92, 170, 70}}, {name: "clock", shape: "clock", c: rgb{196, 60, 60}},
			{name: "teapot", shape: "teapot", c: rgb{80, 170, 160}},
		},
		draw: hover,
	},
	{
		abbr: "SO", law: "solidification", category: "physics", noun: "glass of {n}",
		ip:       []string{"a glass of {n} left in a freezer", "a glass of {n} at minus thirty degrees", "a glass of {n} left in the cold"},
		first:    []string{"a glass of frozen {n} with ice", "a glass of icy solid {n}", "a glass of {n} turned into white ice"},
		second:   []string{"a glass of liquid {n}", "a glass of clear fluid {n}", "a glass of {n} without ice"},
		subjects: drinks,
		draw:     func(p *pen, s subject, first bool) { frozen(p, s.c, first) },
	},
	{
		abbr: "AB", law: "absorption", category: "physics", bySubject: true, noun: "{n}",
		ip:     []string{"water poured on {n}", "water put on {n}", "a cup of water over {n}"},
		first:  []string{"wet dark {n}", "{n} soaked with water", "dark {n} full of water"},
		second: []string{"water drops on top of {n}", "blue puddles on {n}", "bright {n} with blue drops"},
		subjects: []subject{
			{name: "sponge", shape: "sponge", c: rgb{244, 212, 84}}, {name: "plastic", shape: "plastic", c: rgb{232, 76, 70}, b: true},
			{name: "towel", shape: "towel", c: rgb{236, 160, 176}}, {name: "metal", shape: "metal", c: rgb{178, 184, 194}, b: true},
			{name: "paper", shape: "paper", c: rgb{248, 248, 242}}, {name: "rubber", shape: "rubber", c: rgb{196, 120, 150}, b: true},
			{name: "cotton", shape: "cotton", c: rgb{240, 240, 246}}, {name: "marble", shape: "marble", c: rgb{226, 222, 214}, b: true},
			{name: "bread", shape: "bread", c: rgb{240, 206, 150}}, {name: "wax", shape: "wax", c: rgb{238, 224, 170}, b: true},
		},
		draw: func(p *pen, s subject, first bool) { soak(p, s.shape, s.c, first) },
	},
	{
		abbr: "DI", law: "diffusion", category: "physics", bySubject: true, noun: "{n}",
		ip:     []string{"{n} put into a jar of water", "a drop of {n} after an hour in a jar", "{n} dropped into a water jar"},
		first:  []string{"a jar evenly tinted by {n}", "{n} spread all through a jar", "a jar with {n} in every part"},
		second: []string{"a compact blob of {n} in a jar", "a clear jar with one {n} blob", "a round lump of {n} in a jar"},
		subjects: []subject{
			{name: "ink", c: rgb{36, 36, 130}}, {name: "oil", c: rgb{232, 190, 50}, b: true}, {name: "dye", c: rgb{216, 40, 130}},
			{name: "mercury", c: rgb{118, 124, 140}, b: true}, {name: "blood", c: rgb{170, 20, 34}}, {name: "wax", c: rgb{240, 226, 176}, b: true},
			{name: "syrup", c: rgb{172, 92, 30}}, {name: "tar", c: rgb{42, 36, 32}, b: true}, {name: "juice", c: rgb{250, 160, 40}},
			{name: "resin", c: rgb{196, 124, 44}, b: true},
		},
		draw: func(p *pen, s subject, first bool) { diffusing(p, s.c, first) },
	},
	{
		abbr: "EV", law: "evaporation", category: "physics", noun: "{n} of water",
		ip:       []string{"a {n} of water left in the sun for weeks", "a {n} of water after a long drought", "a {n} of water left in the heat for weeks"},
		first:    []string{"an empty {n}", "a dry {n} with nothing inside", "a {n} with no water"},
		second:   []string{"a {n} full of water", "a {n} filled with blue water", "a {n} with blue water inside"},
		subjects: sameColour(water, "cup", "bowl", "glass", "bucket", "jar", "pot", "vase", "tray", "beaker", "bottle"),
		draw: func(p *pen, s subject, first bool) {
			level := 0.82
			if first {
				level = 0
			}
			vessel(p, s.shape, water, level)
		},
	},
	{
		abbr: "LI", law: "liquidation", category: "physics", noun: "cold {n}",
		ip:     []string{"a cold {n} in humid air", "a cold {n} on a steamy day", "a cold {n} in a warm room"},
		first:  []string{"a {n} covered with water droplets", "a wet {n} with dew", "a {n} with drops and a wet ring"},
		second: []string{"a {n} with a dry surface", "a plain dry {n}", "a {n} without any drops"},
		subjects: []subject{
			{name: "bottle", shape: "bottle", c: rgb{70, 146, 84}}, {name: "can", shape: "can", c: rgb{206, 46, 46}},
			{name: "mug", shape: "mug", c: rgb{240, 190, 70}}, {name: "flask", shape: "flask", c: rgb{64, 104, 186}},
			{name: "jug", shape: "jug", c: rgb{230, 130, 160}}, {name: "goblet", shape: "goblet", c: rgb{152, 108, 186}},
			{name: "glass", shape: "glass", c: rgb{244, 168, 60}},
			{name: "kettle", shape: "kettle", c: rgb{176, 64, 52}}, {name: "jar", shape: "jar", c: rgb{178, 60, 110}},
			{name: "carafe", shape: "carafe", c: rgb{40, 140, 150}},
		},
		draw: func(p *pen, s subject, first bool) { cold(p, s.shape, s.c, first) },
	},
	{
		abbr: "IM", law: "immiscibility", category: "chemistry", bySubject: true, noun: "{n}",
		ip:     []string{"{n} mixed with water in a beaker", "a beaker of water and {n}", "{n} stirred into a beaker of water"},
		first:  []string{"{n} in a separate layer above water", "two layers with {n} on top", "a beaker with {n} over blue water"},
		second: []string{"a uniform blend of {n} and water", "one single liquid of {n} and water", "a beaker of cloudy {n} water"},
		subjects: []subject{
			{name: "oil", c: rgb{234, 192, 60}}, {name: "vinegar", c: rgb{196, 110, 60}, b: true}, {name: "petrol", c: rgb{228, 128, 152}},
			{name: "alcohol", c: rgb{150, 226, 170}, b: true}, {name: "paraffin", c: rgb{240, 232, 206}}, {name: "honey", c: rgb{238, 164, 30}, b: true},
			{name: "resin", c: rgb{196, 122, 44}}, {name: "lemonade", c: rgb{238, 238, 110}, b: true}, {name: "diesel", c: rgb{150, 90, 130}},
			{name: "milk", c: rgb{250, 250, 246}, b: true},
		},
		draw: func(p *pen, s subject, first bool) { liquids(p, s.c, first) },
	},
	{
		abbr: "LR", law: "light requirement", category: "biology", noun: "{n} plant",
		ip:       []string{"a {n} plant kept in a dark cellar", "a {n} plant without any light", "a {n} plant left in a cellar for weeks"},
		first:    []string{"a pale yellow {n} plant", "a {n} plant with yellow leaves", "a {n} plant without green color"},
		second:   []string{"a green {n} plant", "a {n} plant with green leaves", "a {n} plant in strong green color"},
		subjects: plants,
		draw:     func(p *pen, s subject, first bool) { potted(p, s.shape, pick(first, pale, fresh), false) },
	},
	{
		abbr: "WR", law: "watering requirement", category: "biology", noun: "{n} plant",
		ip:       []string{"a {n} plant nobody watered", "a {n} plant after weeks without water", "a {n} plant left without water for weeks"},
		first:    []string{"a wilted brown {n} plant", "a drooping dry {n} plant", "a {n} plant with brown hanging leaves"},
		second:   []string{"an upright fresh {n} plant", "a healthy {n} plant standing tall", "a {n} plant with fresh upright leaves"},
		subjects: plants,
		draw:     func(p *pen, s subject, first bool) { potted(p, s.shape, pick(first, brown, fresh), first) },
	},
}

var drinks = []subject{
	{name: "water", c: water}, {name: "juice", c: rgb{250, 164, 40}}, {name: "milk", c: rgb{252, 250, 240}}, {name: "tea", c: rgb{176, 98, 40}},
	{name: "soup", c: rgb{216, 84, 40}}, {name: "cola", c: rgb{72, 38, 28}}, {name: "wine", c: rgb{132, 20, 54}},
	{name: "coffee", c: rgb{98, 62, 38}}, {name: "lemonade", c: rgb{238, 232, 96}}, {name: "syrup", c: rgb{186, 50, 90}},
}

func sameColour(c rgb, names ...string) []subject {
	out := make([]subject, len(names))
	for i, n := range names {
		out[i] = subject{name: n, shape: n, c: c}
	}
	return out
}

func pick(first bool, a, b rgb) rgb {
	if first {
		return a
	}
	return b
}

// hover draws a thing in the air, its shadow below, or on the ground.
func hover(p *pen, s subject, first bool) {
	shadow := rgb{70, 70, 76}
	y := 6.0
	if first {
		y = -10
		p.bare(func() { p.ell(0, 17, 8, 1.8, shadow) })
	} else {
		p.bare(func() { p.ell(0, 16, 14, 2.6, shadow) })
	}
	p.moved(0, y, 0.78, func() { p.named(s.shape, s.c) })
}

func (t *task) subject(name string) (subject, int, bool) {
	for i, s := range t.subjects {
		if s.name == name {
			return s, i, true
		}
	}
	return subject{}, 0, false
}

func taskNamed(abbr string) (*task, bool) {
	for i := range tasks {
		if tasks[i].abbr == abbr {
			return &tasks[i], true
		}
	}
	return nil, false
}
