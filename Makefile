# make demo-videobert  trains VideoBERT on synthesised videos with captions
# make demo       pretrains, finetunes, evaluates and ships a small VideoMAE on synthesised videos
# make demo-own VIDEOS=folder  does it with your videos, from broken files to a report (CHECKPOINT=, GROUPS=regex, OUT=, OPTIONS=)
# make demo-images  the same with images: MAE on handwritten digits, against logistic regression on pixels
# make test       runs the fast tests; make test-slow runs those that take minutes each
# make lint       runs ruff, as in continuous integration
# make docs       builds the documentation in site/
# make notebook   writes examples/finetune_your_videos.ipynb from the script of that name
# make generated  writes what follows from the code: docs/options.md, the text of --help, the index of recipes
#
# Each creates .venv on first use. PYTHON is the interpreter for it (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
RECIPES = examples/recipes

.PHONY: demo demo-own demo-images demo-videobert test test-slow lint docs notebook generated clean

# One thread: a second one gains little on so small a model, and the data loader needs the other core
demo: export OMP_NUM_THREADS = 1
demo: $(VENV)/installed
	rm -rf demo/pretrain demo/finetune demo/evaluation demo/few_labels demo/bundle
	$(PY) train.py pretrain $(RECIPES)/demo_pretrain.yaml
	$(PY) train.py finetune $(RECIPES)/demo_finetune.yaml
	$(PY) train.py evaluate --checkpoint demo/finetune --eval_data demo/data/val --num_clips 2 --num_crops 1 \
		--use_cpu true --per_device_eval_batch_size 16 --output_dir demo/evaluation
	$(PY) examples/experiments/few_labels.py demo/few_labels --pretrained demo/pretrain \
		--train_data demo/data/train --eval_data demo/data/val --steps 150 --scratch_factors 2
	$(PY) push_to_hub.py demo/finetune me/videomae-demo --dry_run demo/bundle \
		--metrics demo/evaluation/metrics.json --dataset "synthesised motions (videomae_hf.data.sources.synthetic)"
	$(PY) -m videomae_hf.cli report demo/evaluation --page demo/report.html --device cpu \
		--few_labels demo/few_labels/summary.json

OUT ?= output/own_videos
# A variable as it was given, quoted for the shell: paths have spaces and quotes, and patterns dollars
quoted = '$(subst ','\'',$(value $(1)))'
demo-own: $(VENV)/installed
	@test -n $(call quoted,VIDEOS) || { echo "make demo-own needs a folder with a folder for each class, or a list of videos and" \
		"labels: make demo-own VIDEOS=my_videos" >&2; exit 1; }
	$(PY) examples/own_videos.py $(call quoted,VIDEOS) --out $(call quoted,OUT) \
		$(if $(CHECKPOINT),--checkpoint $(call quoted,CHECKPOINT)) \
		$(if $(GROUPS),--group_pattern $(call quoted,GROUPS)) $(if $(OPTIONS),-- $(OPTIONS))

# VideoBERT on synthesised videos with captions, and its score on each attribute of unseen combinations
VIDEOBERT = $(PY) train.py videobert $(RECIPES)/demo_videobert.yaml
ATTRIBUTES = $(PY) examples/experiments/videobert_attributes.py --test demo/videobert/data/test \
	--out demo/videobert/results.jsonl
demo-videobert: export OMP_NUM_THREADS = 1
demo-videobert: $(VENV)/installed
	rm -rf demo/videobert
	$(PY) -m videomae_hf.data.sources.synthetic_captions demo/videobert/data
	test -f demo/pretrain/config.json || $(PY) train.py pretrain $(RECIPES)/demo_pretrain.yaml
	test -f demo/finetune/config.json || $(PY) train.py finetune $(RECIPES)/demo_finetune.yaml
	$(PY) train.py finetune $(RECIPES)/demo_videobert_backbone.yaml
	$(VIDEOBERT)
	$(VIDEOBERT) --task captioning --checkpoint demo/videobert/pretrained --backbone none --num_train_epochs 4 \
		--output_dir demo/videobert/captioner
	$(VIDEOBERT) --train_data demo/videobert/data/train/one_video.csv --num_train_epochs 2 \
		--output_dir demo/videobert/text_only
	$(ATTRIBUTES) demo/videobert/text_only --name "trained on texts"
	$(ATTRIBUTES) demo/videobert/pretrained --name "frozen backbone" --captioner demo/videobert/captioner \
		--conditions video still shuffled repeated text --report demo/videobert/report.html

# 300 steps of finetuning with 10 labels of each digit, 600 with all; from scratch also for a multiple of them
demo-images: export OMP_NUM_THREADS = 1
demo-images: DIGITS = --train_data demo_images/data/train --eval_data demo_images/data/val
demo-images: FEW = --pretrained demo_images/pretrain --recipe $(RECIPES)/demo_images_finetune.yaml $(DIGITS) --seeds 3
demo-images: $(VENV)/installed
	rm -rf demo_images
	$(PY) examples/experiments/digit_images.py demo_images/data
	$(PY) train.py pretrain $(RECIPES)/demo_images_pretrain.yaml
	$(PY) train.py pretrain $(RECIPES)/demo_images_pretrain.yaml --output_dir demo_images/untrained \
		--max_steps 1 --learning_rate 0 --eval_on_start false
	for model in untrained pretrain; do $(PY) train.py probe --checkpoint demo_images/$$model $(DIGITS) \
		--use_cpu true --output_dir demo_images/probe_$$model || exit 1; done
	$(PY) train.py finetune $(RECIPES)/demo_images_finetune.yaml
	$(PY) examples/experiments/few_labels.py demo_images/few_labels $(FEW) --labels_per_class 10 --steps 300
	$(PY) examples/experiments/pixel_baseline.py demo_images/few_labels --eval_data demo_images/data/val
	$(PY) examples/experiments/few_labels.py demo_images/all_labels $(FEW) --labels_per_class all --steps 600 \
		--scratch_factors 1 2
	$(PY) examples/experiments/pixel_baseline.py demo_images/all_labels --eval_data demo_images/data/val
	$(PY) -m videomae_hf.cli report demo_images/finetune --few_labels demo_images/few_labels/summary.json \
		--page demo_images/report.html

test: $(VENV)/installed
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed
	$(PY) -m pytest -q -m slow

lint: $(VENV)/bin/ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Installs ruff alone: linting the package needs none of its dependencies.
$(VENV)/bin/ruff: constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt ruff
	touch $@

docs: $(VENV)/installed
	$(PY) -m zensical build --clean --strict

generated: $(VENV)/installed
	PYTHONPATH=.:tests $(PY) -m helpers.documentation
	$(PY) examples/recipes/index.py

notebook: $(VENV)/installed
	$(PY) -m jupytext --quiet --to ipynb --update --set-kernel python3 examples/finetune_your_videos.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e '.[app,demo,test,docs]'
	touch $@

clean:
	rm -rf demo demo_images output
