"""The reports: where each stands, what it is about, and which trial it has here.

Each was read at its source; the words are ours.  A number behind a repository is that of an
issue or a pull request on GitHub.
"""

from __future__ import annotations

# What was reported, the trial, and the places.
REPORTS: tuple[tuple[str, str, str], ...] = (
    (
        "16-bit, 12-bit and int32 pictures come out white, clipped or nearly black",
        "deep_integers",
        "python-pillow/Pillow#274 #1108 #2574 #3011 #3159 #3838 #5967, pytorch/vision#105",
    ),
    (
        "floating-point pictures are clipped, or read with other values",
        "deep_floats",
        "python-pillow/Pillow#5465 #7333",
    ),
    (
        "a 16-bit camera picture uses 12 bits, and each has its own range",
        "deep_one_by_one",
        "http://ansaurus.com/question/1327954-rescale-intensities-of-a-pil-image",
    ),
    (
        "float arrays of 0..255 are taken for 0..1 and not scaled, without a word",
        "wide_arrays",
        "pytorch/vision#546 #567, pytorch/pytorch#6390",
    ),
    (
        "values beyond 255 wrap around, or lose digits, on their way to bytes",
        "wide_values",
        "pytorch/vision#9028, python-pillow/Pillow#3987",
    ),
    ("label maps become nearly black pictures", "label_maps", "pytorch/pytorch#18679"),
    ("floats are cut off, not rounded: 0.9999 becomes 254", "rounding", "pytorch/vision#9646"),
    (
        "photographs lie on their side, because the EXIF orientation is ignored",
        "orientation",
        "python-pillow/Pillow#4703 #9109 #4124, kohya-ss/sd-scripts#1316",
    ),
    (
        "clear parts become black, or the transparency is ignored",
        "transparency",
        "python-pillow/Pillow#421, NVIDIA/DIGITS#85, layumi/University1652-Baseline#17",
    ),
    (
        "CMYK, RGBA and grey pictures among RGB ones end in an error of shapes",
        "modes",
        "vlfeat/matconvnet#91 #360, keras-team/keras#11309, EvilBT/ComfyUI_SLK_joy_caption_two#13",
    ),
    (
        "hidden folders become classes, hidden files pictures",
        "hidden",
        "pytorch/vision#79 #109 #2831, open-mmlab/mmpretrain#507, tensorflow/tensorflow#46595, "
        "d8ahazard/sd_dreambooth_extension#44, upscayl/upscayl#1474",
    ),
    (
        "an empty class folder is an error without a way round",
        "empty_class",
        "pytorch/vision#4925 #8297",
    ),
    (
        "one corrupt picture ends everything, and its name is not said",
        "cut_short",
        "pytorch/vision#138 #864, microsoft/Biodiversity#658, eg4000/SKU110K_CVPR19#23, "
        "udacity/deep-learning-v2-pytorch#134, falloutdurham/beginners-pytorch-deep-learning#17",
    ),
    (
        "pictures with endings in capitals, .jfif or .heic are ignored in silence",
        "endings",
        "GaParmar/clean-fid#37, huggingface/datasets#4515, supervisely/supervisely#839, "
        "pharmapsychotic/clip-interrogator-ext#50",
    ),
    (
        "no class folder, or 0 files, are found, although pictures are there",
        "no_classes",
        "pytorch/vision#72 #446 #707, sicara/easy-few-shot-learning#41, "
        "nii-yamagishilab/ClassNSeg#6",
    ),
    (
        "folders named by numbers get other numbers as labels",
        "numbers_as_names",
        "modestyachts/ImageNetV2#10",
    ),
    (
        "one picture lies in two classes, or in training and test",
        "duplicates",
        "pratikkayal/PlantDoc-Dataset#4, jhl-Det/CVA-Net#27, zalandoresearch/fashion-mnist#44, "
        "BayesWatch/cinic-10#5",
    ),
    (
        "`~` in a path is not the home folder",
        "tilde",
        "huggingface/datasets#5757, neuromorphs/tonic#295, python/cpython#98887",
    ),
    (
        "how one's own classes are divided into training, validation and test",
        "parts_as_folders",
        "sicara/easy-few-shot-learning#67, tristandeleu/pytorch-maml#3, drimpossible/GDumb#3",
    ),
    (
        "training and test have the same classes",
        "same_classes",
        "sicara/easy-few-shot-learning#14, kjunelee/MetaOptNet#55, ylsung/gnn_few_shot_cifar100#1",
    ),
    (
        "own data in a tree of two levels, like Omniglot's",
        "two_levels",
        "tristandeleu/pytorch-maml#11, AntreasAntoniou/HowToTrainYourMAMLPytorch#19",
    ),
    (
        "a data set's pickle is missing, is a web page, or one of several of unclear use",
        "pickles",
        "learnables/learn2learn#238 #310, yinboc/few-shot-meta-baseline#13",
    ),
    (
        "NumPy files of objects cannot be loaded",
        "objects",
        "naszilla/tabzilla#9, autonomio/talos#351",
    ),
    (
        '"sample larger than population": a class has too few pictures',
        "too_few_pictures",
        "sicara/easy-few-shot-learning#64 #68, gitabcworld/FewShotLearning#9, "
        "infinity7428/hANMCL#17, learnables/learn2learn#124, dvornikita/fewshot_ensemble#3",
    ),
    ("two classes, and tasks of five", "too_few_classes", "sicara/easy-few-shot-learning#44"),
    (
        "do all classes need as many pictures?",
        "uneven_classes",
        "phlippe/uvadlc_notebooks#109",
    ),
    (
        "a data set of one's own lacks what the sampler wants of it; labels that are tensors",
        "no_list_of_labels",
        "sicara/easy-few-shot-learning#39 #57 #82 #89 #121, learnables/learn2learn#136",
    ),
    (
        "how series and measurements become tasks",
        "series",
        "learnables/learn2learn#254 #365",
    ),
    ('"num_samples=0": nothing was found', "nothing_there", "Runist/torch_maml#9"),
    (
        "the tasks are drawn once, and the same in every epoch",
        "tasks_go_on",
        "dragen1860/MAML-Pytorch#36",
    ),
    (
        "results differ from run to run, although the seed is set",
        "seeds",
        "muzairkhattak/multimodal-prompt-learning#35, hbzju/PiCO#2, ZhaofengWu/SIFT#4",
    ),
    (
        "a resumed run is another one: no random state, no state of the optimiser",
        "resumed",
        "huggingface/transformers#11504 #17032, unit8co/darts#2463, "
        "AntreasAntoniou/HowToTrainYourMAMLPytorch#31",
    ),
    (
        "a model that was loaded again tests otherwise than at the end of training",
        "tested_again",
        "AntreasAntoniou/HowToTrainYourMAMLPytorch#11, sicara/easy-few-shot-learning#129",
    ),
    (
        "validation or test tasks of training classes",
        "leaks",
        "yinboc/few-shot-meta-baseline#48, dragen1860/MAML-Pytorch#56, "
        "YujiaBao/Distributional-Signatures#3",
    ),
    (
        "the best weights are chosen by the test set",
        "best_by_validation",
        "crashmoon/MAML-Pytorch-Multi-GPUs#1, JIA-Lab-research/PFENet#9",
    ),
    (
        "recurrent layers get no second-order gradient",
        "recurrent",
        "facebookresearch/higher#27",
    ),
    (
        "memory grows from inner loop to inner loop",
        "memory",
        "facebookresearch/higher#6 #37, tristandeleu/pytorch-maml-rl#9",
    ),
    (
        "does a clone share weights with its original? are the adapted ones others?",
        "adapted_weights",
        "learnables/learn2learn#169 #420",
    ),
    ("modules that share parameters break", "shared_layers", "learnables/learn2learn#176"),
    (
        "frozen layers, or such as the loss does not reach, end in an error of autograd",
        "frozen_layers",
        "dbaranchuk/memory-efficient-maml#2",
    ),
    (
        "batch norm with running statistics fails under functional transforms",
        "batch_norm",
        "pytorch/functorch#273 #384 #867 #986, pytorch/pytorch#85533 #96655",
    ),
    (
        "each layer of a network has to be written anew for MAML",
        "any_network",
        "dragen1860/MAML-Pytorch#47, katerakelly/pytorch-maml#21",
    ),
    (
        "one query a class gives an accuracy that never changes",
        "one_query",
        "jakesnell/prototypical-networks#33",
    ),
    (
        "lambdas, samplers and data sets cannot be pickled for other processes",
        "pickled",
        "learnables/learn2learn#369, sicara/easy-few-shot-learning#118, "
        "dragen1860/MAML-Pytorch#33, belskikh/kekas#26, xingyizhou/CenterNet#649, "
        "openai/CLIP#151, yinboc/few-shot-meta-baseline#29, daviswer/fewshotlocal#1",
    ),
    (
        "how a single picture is told, after training",
        "one_picture",
        "phlippe/uvadlc_notebooks#16 #103, sicara/easy-few-shot-learning#17 #128 #144, "
        "Sha-Lab/FEAT#3, yinboc/prototypical-network-pytorch#4, "
        "orobix/Prototypical-Networks-for-Few-shot-Learning-PyTorch#8",
    ),
    (
        "one sample is taken for many, or refused in words about arrays",
        "one_flat_picture",
        "scikit-learn/scikit-learn#5135 #6342 #13072, ageron/handson-ml2#215, "
        "blue-yonder/tsfresh#351, styleNie/PCANet_python#4",
    ),
    (
        "an empty or wrong input gets a message that prints the array",
        "no_pictures",
        "shag527/Indian-Sign-Language-Recognition#6",
    ),
    (
        "unknown label type, NaN, several columns: the message does not help",
        "labels",
        "scikit-learn/scikit-learn#5782 #6049 #7801 #9498, jpmml/sklearn2pmml#103",
    ),
    (
        "cross-validation in several processes cannot pickle the estimator",
        "cross_validated",
        "scikit-learn/scikit-learn#9467 #12413 #12891 #13228 #17830",
    ),
    (
        "how a trained model is saved, loaded and used",
        "loaded",
        "dragen1860/MAML-Pytorch#42 #53",
    ),
    (
        "a traceback where output goes to `head`",
        "closed_pipe",
        "Backblaze/B2_Command_Line_Tool#1071, browser-history/browser-history#281, "
        "python/cpython#90650",
    ),
    (
        "a progress bar or a name cannot be encoded for the terminal",
        "narrow_output",
        "theislab/scarches#25, fastai/fastai#1377, Rockhopper-Technologies/enlighten#13, "
        "rsalmei/alive-progress#76",
    ),
    (
        'names of files that are not UTF-8 end in "surrogates not allowed"',
        "other_names",
        "GoogleCloudPlatform/gsutil#1625, arsenetar/dupeguru#335, samschott/maestral#230, "
        "ArchiveBox/ArchiveBox#1373",
    ),
)


def places() -> list[str]:
    """Every report by itself: `owner/repository#number`, or an address."""
    found = []
    for _, _, text in REPORTS:
        for entry in text.split(", "):
            first, *numbers = entry.split(" ")
            repository = first.partition("#")[0]
            found += [first, *(f"{repository}{number}" for number in numbers)]
    return found
